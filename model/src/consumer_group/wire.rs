//! Big-endian fields as Kafka's old, not "flexible" formats have them. What is read is not trusted.

/// Why bytes cannot be written or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Larger than the format allows.
    #[error("{field} is too large: {length}, at most {max}")]
    TooLarge {
        /// The field.
        field: &'static str,
        /// Its size, or its value.
        length: u64,
        /// The limit.
        max: u64,
    },
    /// Another kind of record, or another version of the program.
    #[error("version {version} of {what} is not supported")]
    Version {
        /// What was read.
        what: &'static str,
        /// The version that the bytes state.
        version: i16,
    },
    /// The bytes are not what the version says.
    #[error("{field} is malformed or cut off")]
    Malformed {
        /// The field.
        field: &'static str,
    },
}

/// Fields, one after the other.
#[derive(Debug, Default)]
pub(super) struct Writer {
    pub(super) bytes: Vec<u8>,
}

impl Writer {
    pub(super) fn int16(&mut self, value: i16) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub(super) fn int32(&mut self, value: i32) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub(super) fn int64(&mut self, value: i64) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    /// A number that must not be negative.
    pub(super) fn unsigned(&mut self, field: &'static str, value: u32) -> Result<(), WireError> {
        let max = i32::MAX.cast_unsigned().into();
        self.int32(i32::try_from(value).map_err(|_| WireError::TooLarge { field, length: value.into(), max })?);
        Ok(())
    }

    /// How many elements follow.
    pub(super) fn count(&mut self, field: &'static str, count: usize) -> Result<(), WireError> {
        let max = i32::MAX.cast_unsigned().into();
        self.int32(i32::try_from(count).map_err(|_| WireError::TooLarge { field, length: count as u64, max })?);
        Ok(())
    }

    pub(super) fn text(&mut self, field: &'static str, text: &str) -> Result<(), WireError> {
        let max = i16::MAX.cast_unsigned().into();
        let length = text.len() as u64;
        self.int16(i16::try_from(text.len()).map_err(|_| WireError::TooLarge { field, length, max })?);
        self.bytes.extend_from_slice(text.as_bytes());
        Ok(())
    }

    pub(super) fn optional_text(&mut self, field: &'static str, text: Option<&str>) -> Result<(), WireError> {
        match text {
            Some(text) => self.text(field, text),
            None => {
                self.int16(-1);
                Ok(())
            }
        }
    }

    pub(super) fn blob(&mut self, field: &'static str, bytes: &[u8]) -> Result<(), WireError> {
        self.count(field, bytes.len())?;
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    pub(super) fn optional_blob(&mut self, field: &'static str, bytes: Option<&[u8]>) -> Result<(), WireError> {
        match bytes {
            Some(bytes) => self.blob(field, bytes),
            None => {
                self.int32(-1);
                Ok(())
            }
        }
    }
}

/// Takes fields from the front of bytes.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) const fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], WireError> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(WireError::Malformed { field })?;
        self.rest = rest;
        Ok(*taken)
    }

    fn slice(&mut self, field: &'static str, length: usize) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(WireError::Malformed { field })?;
        self.rest = rest;
        Ok(taken)
    }

    pub(super) fn int16(&mut self, field: &'static str) -> Result<i16, WireError> {
        Ok(i16::from_be_bytes(self.array(field)?))
    }

    pub(super) fn int32(&mut self, field: &'static str) -> Result<i32, WireError> {
        Ok(i32::from_be_bytes(self.array(field)?))
    }

    pub(super) fn int64(&mut self, field: &'static str) -> Result<i64, WireError> {
        Ok(i64::from_be_bytes(self.array(field)?))
    }

    /// A number that must not be negative.
    pub(super) fn unsigned(&mut self, field: &'static str) -> Result<u32, WireError> {
        u32::try_from(self.int32(field)?).map_err(|_| WireError::Malformed { field })
    }

    /// How many elements follow. Nothing may be reserved for them: the number is not checked against anything. An
    /// array that is not there is an empty one.
    pub(super) fn count(&mut self, field: &'static str) -> Result<u32, WireError> {
        match self.int32(field)? {
            -1 => Ok(0),
            count => u32::try_from(count).map_err(|_| WireError::Malformed { field }),
        }
    }

    pub(super) fn text(&mut self, field: &'static str) -> Result<&'a str, WireError> {
        self.optional_text(field)?.ok_or(WireError::Malformed { field })
    }

    pub(super) fn optional_text(&mut self, field: &'static str) -> Result<Option<&'a str>, WireError> {
        let malformed = WireError::Malformed { field };
        let length = match self.int16(field)? {
            -1 => return Ok(None),
            length => usize::try_from(length).map_err(|_| malformed.clone())?,
        };
        str::from_utf8(self.slice(field, length)?).map(Some).map_err(|_| malformed)
    }

    pub(super) fn blob(&mut self, field: &'static str) -> Result<&'a [u8], WireError> {
        self.optional_blob(field)?.ok_or(WireError::Malformed { field })
    }

    pub(super) fn optional_blob(&mut self, field: &'static str) -> Result<Option<&'a [u8]>, WireError> {
        let length = match self.int32(field)? {
            -1 => return Ok(None),
            length => usize::try_from(length).map_err(|_| WireError::Malformed { field })?,
        };
        self.slice(field, length).map(Some)
    }
}
