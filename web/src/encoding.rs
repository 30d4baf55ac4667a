//! Content codings: gzip and zstd, both ways.
//!
//! Requests are decompressed here and not by actix-web, whose decompressor has no limit on its
//! output: a few kilobytes could become gigabytes. Every byte that comes out is counted.

use std::io::{self, Write};

use actix_web::http::header::{self, HeaderMap};
use flate2::{Compression, write::GzEncoder, write::MultiGzDecoder};
use zstd::{
    stream::{raw, zio},
    zstd_safe::DParameter,
};

use crate::{
    error::{ApiError, Cause},
    media_type::quality,
};

/// The largest window a zstd request may ask for: 8 MiB, the limit that RFC 9659 sets for HTTP.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;
/// Fast enough to sit on the way of a reply.
const GZIP_LEVEL: u32 = 3;
const ZSTD_LEVEL: i32 = 1;

/// How a body is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    Gzip,
    Zstd,
}

impl Coding {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    /// The coding of a request body; `None` when it is sent as it is.
    pub(crate) fn of_request(headers: &HeaderMap) -> Result<Option<Self>, ApiError> {
        let mut values = headers.get_all(header::CONTENT_ENCODING);
        let Some(value) = values.next() else { return Ok(None) };
        let name = value.to_str().unwrap_or("?").trim().to_ascii_lowercase();
        match name.as_str() {
            _ if values.next().is_some() => {}
            "" | "identity" => return Ok(None),
            "gzip" | "x-gzip" => return Ok(Some(Self::Gzip)),
            "zstd" => return Ok(Some(Self::Zstd)),
            _ => {}
        }
        let message = format!("Content-Encoding {name:?} is not supported; send one of gzip, zstd or identity");
        Err(ApiError::new(Cause::UnsupportedMediaType, message))
    }

    /// The coding the client likes best; zstd before gzip when it does not mind.
    pub(crate) fn of_reply(headers: &HeaderMap) -> Option<Self> {
        let accepted = headers.get(header::ACCEPT_ENCODING)?.to_str().ok()?;
        let (mut gzip, mut zstd, mut any) = (None, None, None);
        for range in accepted.split(',') {
            let (name, parameters) = range.split_once(';').unwrap_or((range, ""));
            let weight = parameters.split_once('=').map_or(1000, |(_, value)| quality(value));
            match name.trim().to_ascii_lowercase().as_str() {
                "gzip" | "x-gzip" => gzip = Some(weight),
                "zstd" => zstd = Some(weight),
                "*" => any = Some(weight),
                _ => {}
            }
        }
        let (gzip, zstd) = (gzip.or(any).unwrap_or(0), zstd.or(any).unwrap_or(0));
        match (gzip, zstd) {
            (0, 0) => None,
            (gzip, zstd) if zstd >= gzip => Some(Self::Zstd),
            _ => Some(Self::Gzip),
        }
    }

    /// Compresses a whole reply.
    pub(crate) fn encode(self, body: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            Self::Gzip => {
                let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 2), Compression::new(GZIP_LEVEL));
                encoder.write_all(body)?;
                encoder.finish()
            }
            Self::Zstd => zstd::bulk::compress(body, ZSTD_LEVEL),
        }
    }
}

/// Collects output up to a limit, then fails.
struct Capped {
    output: Vec<u8>,
    left: usize,
    exceeded: bool,
}

impl Write for Capped {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() > self.left {
            self.exceeded = true;
            return Err(io::Error::other("the output limit is reached"));
        }
        self.left -= bytes.len();
        self.output.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

enum Decoder {
    Gzip(Box<MultiGzDecoder<Capped>>),
    Zstd(Box<zio::Writer<Capped, raw::Decoder<'static>>>),
}

/// Decompresses a body as it arrives, with a limit on the whole output.
pub(crate) struct Inflater {
    coding: Coding,
    decoder: Decoder,
    output_bytes_max: usize,
}

impl Inflater {
    pub(crate) fn new(coding: Coding, output_bytes_max: usize) -> Result<Self, ApiError> {
        let sink = Capped { output: Vec::new(), left: output_bytes_max, exceeded: false };
        let decoder = match coding {
            Coding::Gzip => Decoder::Gzip(Box::new(MultiGzDecoder::new(sink))),
            Coding::Zstd => {
                let failed = |error: io::Error| ApiError::new(Cause::Internal, format!("cannot start zstd: {error}"));
                let mut decoder = raw::Decoder::new().map_err(failed)?;
                decoder.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG_MAX)).map_err(failed)?;
                Decoder::Zstd(Box::new(zio::Writer::new(sink, decoder)))
            }
        };
        Ok(Self { coding, decoder, output_bytes_max })
    }

    fn sink(&mut self) -> &mut Capped {
        match &mut self.decoder {
            Decoder::Gzip(decoder) => decoder.get_mut(),
            Decoder::Zstd(decoder) => decoder.writer_mut(),
        }
    }

    fn refuse(&mut self, error: &io::Error) -> ApiError {
        if self.sink().exceeded {
            let message =
                format!("the body decompresses to more than {} bytes; send less at once", self.output_bytes_max);
            return ApiError::new(Cause::TooLarge, message);
        }
        ApiError::malformed(format!("the body is not {}: {error}", self.coding.name()))
    }

    /// Takes in the next bytes of the body.
    pub(crate) fn push(&mut self, chunk: &[u8]) -> Result<(), ApiError> {
        let written = match &mut self.decoder {
            Decoder::Gzip(decoder) => decoder.write_all(chunk),
            Decoder::Zstd(decoder) => decoder.write_all(chunk).and_then(|()| decoder.flush()),
        };
        written.map_err(|error| self.refuse(&error))
    }

    /// What came out since the last call.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.sink().output)
    }

    /// Ends the body; a body that was cut short is an error.
    pub(crate) fn finish(&mut self) -> Result<Vec<u8>, ApiError> {
        let finished = match &mut self.decoder {
            Decoder::Gzip(decoder) => decoder.try_finish(),
            Decoder::Zstd(decoder) => decoder.finish(),
        };
        finished.map_err(|error| self.refuse(&error))?;
        Ok(self.take())
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn inflate(coding: Coding, body: &[u8], max: usize, step: usize) -> Result<Vec<u8>, ApiError> {
        let mut inflater = Inflater::new(coding, max)?;
        let mut output = Vec::new();
        for chunk in body.chunks(step) {
            inflater.push(chunk)?;
            output.extend(inflater.take());
        }
        output.extend(inflater.finish()?);
        Ok(output)
    }

    #[test]
    fn a_bomb_is_stopped_at_the_limit() {
        let zeros = vec![0; 10 << 20];
        for coding in [Coding::Gzip, Coding::Zstd] {
            let body = coding.encode(&zeros).unwrap();
            assert!(body.len() < 100_000);
            assert_eq!(inflate(coding, &body, 1 << 20, 4096).unwrap_err().cause(), Cause::TooLarge);
            assert_eq!(inflate(coding, &body, 10 << 20, body.len()).unwrap().len(), 10 << 20);
        }
    }

    #[test]
    fn a_body_that_is_cut_short_or_is_something_else_is_malformed() {
        for coding in [Coding::Gzip, Coding::Zstd] {
            let body = coding.encode(b"some text to compress").unwrap();
            assert_eq!(inflate(coding, &body[..body.len() - 3], 1000, 7).unwrap_err().cause(), Cause::Malformed);
            assert_eq!(inflate(coding, b"{\"not\":\"compressed\"}", 1000, 7).unwrap_err().cause(), Cause::Malformed);
        }
    }

    #[test]
    fn a_zstd_window_above_8_mib_is_refused() {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(27).unwrap();
        encoder.write_all(&[1; 100]).unwrap();
        let body = encoder.finish().unwrap();
        assert_eq!(inflate(Coding::Zstd, &body, 1000, 1000).unwrap_err().cause(), Cause::Malformed);
    }

    #[test]
    fn codings_of_requests() {
        let of = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_str(value).unwrap());
            Coding::of_request(&headers)
        };
        assert_eq!(Coding::of_request(&HeaderMap::new()).unwrap(), None);
        assert_eq!(of("GZIP").unwrap(), Some(Coding::Gzip));
        assert_eq!(of("zstd").unwrap(), Some(Coding::Zstd));
        assert_eq!(of("identity").unwrap(), None);
        for refused in ["br", "deflate", "gzip, gzip"] {
            assert_eq!(of(refused).unwrap_err().cause(), Cause::UnsupportedMediaType);
        }
    }

    #[test]
    fn codings_of_replies() {
        for (accepted, expected) in [
            ("gzip", Some(Coding::Gzip)),
            ("gzip, zstd", Some(Coding::Zstd)),
            ("gzip;q=1.0, zstd;q=0.5", Some(Coding::Gzip)),
            ("*", Some(Coding::Zstd)),
            ("zstd;q=0, *", Some(Coding::Gzip)),
            ("br, identity", None),
            ("gzip;q=0", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(accepted));
            assert_eq!(Coding::of_reply(&headers), expected, "{accepted}");
        }
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out(body in proptest::collection::vec(any::<u8>(), 0..4000), step in 1..600_usize) {
            for coding in [Coding::Gzip, Coding::Zstd] {
                let packed = coding.encode(&body).unwrap();
                prop_assert_eq!(&inflate(coding, &packed, 4000, step).unwrap(), &body);
            }
        }

        #[test]
        fn hostile_bytes_never_panic(body in proptest::collection::vec(any::<u8>(), 0..400)) {
            for coding in [Coding::Gzip, Coding::Zstd] {
                drop(inflate(coding, &body, 1000, 50));
            }
        }
    }
}
