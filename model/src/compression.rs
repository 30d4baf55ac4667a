//! The codecs of a record batch's payload, with a limit on what comes out.
//!
//! Compressed bytes come from anybody, so nothing here believes a length that they state: output
//! grows as it is produced and never beyond the caller's limit.
//!
//! Snappy is framed as Kafka's Java clients frame it (the "xerial" stream: a header, then blocks
//! with their length); bare snappy, which other clients send, is read too. LZ4 is written in
//! independent blocks of 64 KiB because Java's reader refuses linked ones.

use std::{
    fmt,
    io::{self, Read, Write},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

/// How the records of a batch are compressed, all of them together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// RFC 1952.
    Gzip,
    /// Snappy in xerial's stream framing, or bare.
    Snappy,
    /// The LZ4 frame format.
    Lz4,
    /// RFC 8878.
    Zstd,
}

/// Why bytes could not be compressed or decompressed.
#[derive(Debug, thiserror::Error)]
pub enum CompressionError {
    /// What comes out is larger than the caller allows.
    #[error("the {codec} data decompress to more than {output_bytes_max} bytes; send smaller batches")]
    TooLarge {
        /// The codec.
        codec: Compression,
        /// The limit.
        output_bytes_max: usize,
    },
    /// The bytes are not what the codec writes.
    #[error("the {codec} data are malformed: {reason}")]
    Malformed {
        /// The codec.
        codec: Compression,
        /// What the decoder says.
        reason: String,
    },
    /// The encoder failed.
    #[error("{codec} compression failed: {reason}")]
    Encode {
        /// The codec.
        codec: Compression,
        /// What the encoder says.
        reason: String,
    },
}

/// A name that no codec has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no compression codec; there are none, gzip, snappy, lz4 and zstd")]
pub struct UnknownCompression(pub String);

/// The first bytes of xerial's snappy stream.
const XERIAL_MAGIC: [u8; 8] = *b"\x82SNAPPY\0";
/// Version and oldest compatible version, both 1, follow the magic.
const XERIAL_VERSIONS: [u8; 8] = [0, 0, 0, 1, 0, 0, 0, 1];
/// The block size of xerial's writer.
const XERIAL_BLOCK_BYTES: usize = 32 * 1024;
/// Snappy's best ratio is a copy of 64 bytes in 3, so a block that claims more than this lies.
const SNAPPY_RATIO_MAX: usize = 22;
/// The window that zstd's level 19 uses, 8 MiB. Larger ones are accepted only when the output may
/// be that large, since the decoder allocates its window.
const ZSTD_WINDOW_LOG_MIN: u32 = 23;
/// The largest window a zstd decoder accepts by default, 128 MiB.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;

impl Compression {
    /// Every codec, in the order of their numbers.
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// The codec with this number in the attributes of a batch.
    #[must_use]
    pub const fn from_wire(number: u16) -> Option<Self> {
        match number {
            0 => Some(Self::None),
            1 => Some(Self::Gzip),
            2 => Some(Self::Snappy),
            3 => Some(Self::Lz4),
            4 => Some(Self::Zstd),
            _ => None,
        }
    }

    /// The codec's number in the attributes of a batch.
    #[must_use]
    pub const fn to_wire(self) -> u16 {
        match self {
            Self::None => 0,
            Self::Gzip => 1,
            Self::Snappy => 2,
            Self::Lz4 => 3,
            Self::Zstd => 4,
        }
    }

    /// The codec's name, as in Kafka's `compression.type`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    /// Compresses `input`.
    ///
    /// # Errors
    /// [`CompressionError::Encode`].
    pub fn compress(self, input: &[u8]) -> Result<Vec<u8>, CompressionError> {
        let mut output = Vec::new();
        self.compress_into(input, &mut output)?;
        Ok(output)
    }

    /// Compresses `input` to the end of `output`.
    ///
    /// # Errors
    /// [`CompressionError::Encode`].
    pub fn compress_into(self, input: &[u8], output: &mut Vec<u8>) -> Result<(), CompressionError> {
        let done = match self {
            Self::None => output.write_all(input),
            Self::Gzip => gzip(input, output),
            Self::Snappy => snappy(input, output),
            Self::Lz4 => lz4(input, output),
            Self::Zstd => zstd::stream::copy_encode(input, output, zstd::DEFAULT_COMPRESSION_LEVEL),
        };
        done.map_err(|error| CompressionError::Encode { codec: self, reason: error.to_string() })
    }

    /// Decompresses `input` into at most `output_bytes_max` bytes. Never allocates more than that
    /// for the output, whatever the input says about itself.
    ///
    /// # Errors
    /// [`CompressionError::TooLarge`] or [`CompressionError::Malformed`].
    pub fn decompress(self, input: &[u8], output_bytes_max: usize) -> Result<Vec<u8>, CompressionError> {
        let mut output = Capped { bytes: Vec::new(), limit: output_bytes_max };
        let done = match self {
            Self::None => output.extend(input),
            Self::Gzip => output.read_all(&mut flate2::bufread::MultiGzDecoder::new(input)),
            Self::Snappy => unsnappy(input, &mut output),
            Self::Lz4 => unlz4(input, &mut output),
            Self::Zstd => unzstd(input, &mut output),
        };
        match done {
            Ok(()) => Ok(output.bytes),
            Err(Failure::TooLarge) => Err(CompressionError::TooLarge { codec: self, output_bytes_max }),
            Err(Failure::Malformed(reason)) => Err(CompressionError::Malformed { codec: self, reason }),
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Compression {
    type Err = UnknownCompression;

    fn from_str(name: &str) -> Result<Self, UnknownCompression> {
        Self::ALL.into_iter().find(|codec| codec.name() == name).ok_or_else(|| UnknownCompression(name.to_owned()))
    }
}

/// Why decompression stopped; the codec is added by the caller.
enum Failure {
    TooLarge,
    Malformed(String),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Malformed(error.to_string())
    }
}

impl From<snap::Error> for Failure {
    fn from(error: snap::Error) -> Self {
        Self::Malformed(error.to_string())
    }
}

/// Output that cannot outgrow its limit.
struct Capped {
    bytes: Vec<u8>,
    limit: usize,
}

impl Capped {
    /// Appends `bytes`.
    fn extend(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.grow(bytes.len())?.copy_from_slice(bytes);
        Ok(())
    }

    /// Appends `bytes` zeros and hands them out to be overwritten.
    fn grow(&mut self, bytes: usize) -> Result<&mut [u8], Failure> {
        let from = self.bytes.len();
        if bytes > self.limit - from {
            return Err(Failure::TooLarge);
        }
        if self.bytes.capacity() - from < bytes {
            // Doubling, but not beyond the limit.
            self.bytes.reserve_exact(bytes.max(from).min(self.limit - from));
        }
        self.bytes.resize(from + bytes, 0);
        Ok(&mut self.bytes[from..])
    }

    /// Appends all that `reader` has.
    fn read_all(&mut self, reader: &mut impl Read) -> Result<(), Failure> {
        const STEP_BYTES: usize = 16 * 1024;
        loop {
            let from = self.bytes.len();
            let step = STEP_BYTES.min(self.limit - from);
            if step == 0 {
                // The limit is reached: one byte more is one too many.
                return match reader.read(&mut [0])? {
                    0 => Ok(()),
                    _ => Err(Failure::TooLarge),
                };
            }
            let read = reader.read(self.grow(step)?);
            self.bytes.truncate(from + *read.as_ref().unwrap_or(&0));
            if read? == 0 {
                return Ok(());
            }
        }
    }
}

fn gzip(input: &[u8], output: &mut Vec<u8>) -> io::Result<()> {
    let mut encoder = flate2::write::GzEncoder::new(output, flate2::Compression::default());
    encoder.write_all(input)?;
    encoder.finish().map(drop)
}

fn lz4(input: &[u8], output: &mut Vec<u8>) -> io::Result<()> {
    use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
    let info = FrameInfo::new().block_size(BlockSize::Max64KB).block_mode(BlockMode::Independent);
    let mut encoder = FrameEncoder::with_frame_info(info, output);
    encoder.write_all(input)?;
    encoder.finish().map(drop).map_err(io::Error::from)
}

/// Frames may lie back to back, as librdkafka reads them.
fn unlz4(input: &[u8], output: &mut Capped) -> Result<(), Failure> {
    let mut decoder = lz4_flex::frame::FrameDecoder::new(input);
    loop {
        output.read_all(&mut decoder)?;
        if decoder.get_ref().is_empty() {
            return Ok(());
        }
    }
}

fn unzstd(input: &[u8], output: &mut Capped) -> Result<(), Failure> {
    let needed = output.limit.checked_next_power_of_two().map_or(ZSTD_WINDOW_LOG_MAX, usize::trailing_zeros);
    let mut decoder = zstd::stream::read::Decoder::with_buffer(input)?;
    decoder.window_log_max(needed.clamp(ZSTD_WINDOW_LOG_MIN, ZSTD_WINDOW_LOG_MAX))?;
    output.read_all(&mut decoder)
}

fn snappy(input: &[u8], output: &mut Vec<u8>) -> io::Result<()> {
    output.extend_from_slice(&XERIAL_MAGIC);
    output.extend_from_slice(&XERIAL_VERSIONS);
    let mut encoder = snap::raw::Encoder::new();
    for block in input.chunks(XERIAL_BLOCK_BYTES) {
        let length_at = output.len();
        let block_at = length_at + 4;
        output.resize(block_at + snap::raw::max_compress_len(block.len()), 0);
        let written = encoder.compress(block, &mut output[block_at..])?;
        output.truncate(block_at + written);
        let length = i32::try_from(written).map_err(io::Error::other)?;
        output[length_at..block_at].copy_from_slice(&length.to_be_bytes());
    }
    Ok(())
}

fn unsnappy(input: &[u8], output: &mut Capped) -> Result<(), Failure> {
    if !input.starts_with(&XERIAL_MAGIC) {
        return unsnappy_block(input, output);
    }
    let mut rest = input;
    while !rest.is_empty() {
        // The header may come again: streams can be concatenated.
        if let Some(stream) = rest.strip_prefix(&XERIAL_MAGIC) {
            rest = stream.get(XERIAL_VERSIONS.len()..).ok_or_else(|| cut("the stream header"))?;
            continue;
        }
        let (length, blocks) = rest.split_first_chunk::<4>().ok_or_else(|| cut("a block length"))?;
        let length = usize::try_from(i32::from_be_bytes(*length))
            .map_err(|_| Failure::Malformed("a block length is negative".to_owned()))?;
        let (block, after) = blocks.split_at_checked(length).ok_or_else(|| cut("a block"))?;
        unsnappy_block(block, output)?;
        rest = after;
    }
    Ok(())
}

fn unsnappy_block(block: &[u8], output: &mut Capped) -> Result<(), Failure> {
    let length = snap::raw::decompress_len(block)?;
    if length > block.len().saturating_mul(SNAPPY_RATIO_MAX) {
        return Err(Failure::Malformed(format!("a block of {} bytes cannot hold {length}", block.len())));
    }
    let written = snap::raw::Decoder::new().decompress(block, output.grow(length)?)?;
    if written == length { Ok(()) } else { Err(cut("a block")) }
}

fn cut(what: &str) -> Failure {
    Failure::Malformed(format!("the data end within {what}"))
}

#[cfg(test)]
mod tests;
