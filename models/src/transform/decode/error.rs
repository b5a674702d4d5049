//! Limits on images, and why bytes could not be turned into one.

/// What an image may cost. Checked before memory is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeLimits {
    /// Largest file in bytes.
    pub max_bytes: usize,
    /// Largest width times height.
    pub max_pixels: u64,
    /// Most frames of an animation, though only the first one is looked at: a file of a hundred thousand is an attack.
    pub max_frames: u32,
    /// Most bytes of memory that decoding may take, the decoded image included.
    pub max_memory: u64,
}

impl Default for DecodeLimits {
    /// 32 MiB, 64 million pixels, 4,096 frames and 384 MiB of memory: every phone's photos fit.
    fn default() -> DecodeLimits {
        DecodeLimits { max_bytes: 32 << 20, max_pixels: 64_000_000, max_frames: 4096, max_memory: 384 << 20 }
    }
}

/// Why bytes could not be turned into an image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes do not begin like any known image format.
    #[error("this is not an image: its content fits no known image format")]
    NotAnImage,
    /// An image format that is recognised but not supported.
    #[error("{format} images are not supported; use JPEG, PNG, WebP, GIF, BMP or TIFF")]
    Unsupported {
        /// The format or the variant of it.
        format: String,
    },
    /// The file ends before the image does.
    #[error("the {format} image is cut off: the file ends before the image does")]
    Truncated {
        /// The format.
        format: &'static str,
    },
    /// The file contradicts its format.
    #[error("the {format} image is damaged: {reason}")]
    Corrupt {
        /// The format.
        format: &'static str,
        /// What the decoder found.
        reason: String,
    },
    /// The file is larger than allowed.
    #[error("the image file has {bytes} bytes; at most {limit} are accepted")]
    TooManyBytes {
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The image is larger than allowed.
    #[error("the image has {width}x{height} pixels; at most {limit} pixels are accepted")]
    TooManyPixels {
        /// Its width.
        width: u32,
        /// Its height.
        height: u32,
        /// Largest width times height.
        limit: u64,
    },
    /// The animation is longer than allowed.
    #[error("the animation has more than {limit} frames")]
    TooManyFrames {
        /// Most frames.
        limit: u32,
    },
    /// Decoding would take more memory than allowed.
    #[error("decoding the {format} image takes more than {limit} bytes of memory")]
    TooMuchMemory {
        /// The format.
        format: &'static str,
        /// The limit.
        limit: u64,
    },
}

impl DecodeError {
    /// A short, fixed word for the kind of failure, for counting.
    pub fn kind(&self) -> &'static str {
        match self {
            DecodeError::NotAnImage => "not_an_image",
            DecodeError::Unsupported { .. } => "unsupported",
            DecodeError::Truncated { .. } => "truncated",
            DecodeError::Corrupt { .. } => "corrupt",
            DecodeError::TooManyBytes { .. } => "too_many_bytes",
            DecodeError::TooManyPixels { .. } => "too_many_pixels",
            DecodeError::TooManyFrames { .. } => "too_many_frames",
            DecodeError::TooMuchMemory { .. } => "too_much_memory",
        }
    }
}

impl DecodeLimits {
    pub(super) fn check_bytes(&self, bytes: usize) -> Result<(), DecodeError> {
        if bytes > self.max_bytes {
            return Err(DecodeError::TooManyBytes { bytes, limit: self.max_bytes });
        }
        Ok(())
    }

    pub(super) fn check_pixels(&self, width: u32, height: u32) -> Result<(), DecodeError> {
        if u64::from(width) * u64::from(height) > self.max_pixels {
            return Err(DecodeError::TooManyPixels { width, height, limit: self.max_pixels });
        }
        Ok(())
    }

    /// The memory that is left after `taken`, or an error if there is none.
    pub(super) fn memory_after(&self, taken: u64, format: &'static str) -> Result<u64, DecodeError> {
        self.max_memory
            .checked_sub(taken)
            .ok_or(DecodeError::TooMuchMemory { format, limit: self.max_memory })
    }
}

pub(super) fn corrupt(format: &'static str, reason: impl Into<String>) -> DecodeError {
    DecodeError::Corrupt { format, reason: reason.into() }
}
