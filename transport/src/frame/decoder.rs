//! Bytes in, frames out, without any I/O: the caller reads into [`FrameDecoder::read_space`] and takes what is whole.
//!
//! Small frames share blocks and are cut out of them. A large body gets a buffer of its own size, and what is missing
//! of it is read straight into that buffer, which then becomes control part and payload: no byte is copied twice.

use bytes::{Buf, BufMut, BytesMut, buf::Limit};

use super::{
    Frame, FrameError, FrameHeader, HEADER_BYTES,
    buffers::{ReceiveBuffer, ReceiveBuffers},
};
use crate::message::Payload;

/// Small frames are read so many bytes at a time.
const BLOCK_BYTES: usize = 64 << 10;

/// A read into less room than this is not worth its system call.
const READ_BYTES_MIN: usize = 4 << 10;

/// A body above this that is not there yet gets a buffer of its own.
const SHARED_BODY_BYTES_MAX: usize = 16 << 10;

/// Read after a large frame: enough for the next header and its control part, little of a payload.
const PEEK_BYTES: usize = 512;

/// Takes a byte stream apart into frames. After an error it must not be used on.
#[derive(Debug)]
pub struct FrameDecoder {
    frame_bytes_max: u32,
    block: BytesMut,
    header: Option<FrameHeader>,
    own: Option<ReceiveBuffer>,
    buffers: ReceiveBuffers,
    /// The last frame was large, so the next is expected to be: then little is read ahead of its header.
    after_large: bool,
}

impl FrameDecoder {
    /// A decoder that refuses frames of more than `frame_bytes_max` bytes, header included.
    #[must_use]
    pub fn new(frame_bytes_max: u32) -> Self {
        Self {
            frame_bytes_max,
            block: BytesMut::new(),
            header: None,
            own: None,
            buffers: ReceiveBuffers::default(),
            after_large: false,
        }
    }

    /// Changes the limit for the frames whose headers have not been taken yet.
    pub fn set_frame_bytes_max(&mut self, frame_bytes_max: u32) {
        self.frame_bytes_max = frame_bytes_max;
    }

    /// Whether bytes of an unfinished frame are held: an end of the stream is then a torn frame.
    #[must_use]
    pub fn is_inside_frame(&self) -> bool {
        self.header.is_some() || !self.block.is_empty()
    }

    /// Bytes allocated at the moment, without blocks that only frames handed out refer to.
    #[must_use]
    pub fn capacity_bytes(&self) -> usize {
        let own = self.own.as_ref().map_or(0, |own| own.bytes.capacity());
        self.block.capacity() + own + self.buffers.capacity_bytes()
    }

    /// Where the next bytes of the stream belong. Never has room for none.
    pub fn read_space(&mut self) -> Limit<&mut BytesMut> {
        if let (Some(header), Some(own)) = (&self.header, &mut self.own) {
            let missing = (header.body_bytes as usize).saturating_sub(own.bytes.len());
            return (&mut own.bytes).limit(missing);
        }
        if self.block.capacity() - self.block.len() < READ_BYTES_MIN {
            self.block.reserve(BLOCK_BYTES - self.block.len().min(BLOCK_BYTES - READ_BYTES_MIN));
        }
        let room = self.block.capacity() - self.block.len();
        (&mut self.block).limit(if self.after_large { PEEK_BYTES } else { room })
    }

    /// The next frame, if all of it is there.
    ///
    /// # Errors
    /// [`FrameError`] when the bytes are no frame.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        Ok(if self.next_header()?.is_some() { self.next_body()? } else { None })
    }

    /// The header of the frame being received. Nothing is allocated for its body before [`Self::next_body`].
    ///
    /// # Errors
    /// [`FrameError`] when the bytes are no header, or one of a frame above the limit.
    pub fn next_header(&mut self) -> Result<Option<FrameHeader>, FrameError> {
        if self.header.is_none()
            && let Some(bytes) = self.block.first_chunk::<HEADER_BYTES>()
        {
            self.header = Some(FrameHeader::decode(bytes, self.frame_bytes_max)?);
            self.block.advance(HEADER_BYTES);
        }
        Ok(self.header)
    }

    /// The frame whose header [`Self::next_header`] gave, if its body is all there.
    ///
    /// # Errors
    /// [`FrameError::ControlChecksum`].
    pub fn next_body(&mut self) -> Result<Option<Frame>, FrameError> {
        let Some(header) = self.header else { return Ok(None) };
        let body_bytes = header.body_bytes as usize;
        let mut body = match &mut self.own {
            Some(own) if own.bytes.len() < body_bytes => return Ok(None),
            Some(own) => own.bytes.split().freeze(),
            None if self.block.len() >= body_bytes => {
                self.after_large = false;
                self.block.split_to(body_bytes).freeze()
            }
            None => {
                self.make_room(body_bytes);
                return Ok(None);
            }
        };
        self.header = None;
        if let Some(own) = self.own.take() {
            self.buffers.give_back(own);
            self.after_large = true;
        }
        let control = body.split_to(header.control_bytes as usize);
        let (stored, computed) = (header.control_checksum, crc32c::crc32c(&control));
        if stored != computed {
            return Err(FrameError::ControlChecksum { computed, stored });
        }
        Ok(Some(Frame {
            kind: header.kind,
            body_kind: header.body_kind,
            correlation_id: header.correlation_id,
            control,
            payload: Payload::from(body),
        }))
    }

    fn make_room(&mut self, body_bytes: usize) {
        if body_bytes > SHARED_BODY_BYTES_MAX {
            let mut own = self.buffers.take(body_bytes);
            own.bytes.put_slice(&self.block);
            self.block.clear();
            self.own = Some(own);
        } else {
            self.block.reserve(body_bytes - self.block.len());
        }
    }
}
