//! Keeping the pictures that come in with items, so that they can be shown, and embedded again by another model.

use std::{io, path::PathBuf};

use sha2::{Digest, Sha256};

use super::super::durable;

/// Folder inside the image folder.
const FOLDER: &str = "uploads";

/// Where uploaded pictures are kept, named by their contents.
#[derive(Clone, Debug)]
pub(in crate::http) struct Uploads {
    images: PathBuf,
}

impl Uploads {
    /// Keeps pictures below this image folder.
    pub(in crate::http) fn new(images: PathBuf) -> Self {
        Self { images }
    }

    /// Stores a picture, whole or not at all, and returns its path relative to the image folder. When it returns, the picture survives a
    /// crash: the item that names it does, too.
    pub(super) fn keep(&self, file: &[u8]) -> io::Result<String> {
        let name = hex::encode(Sha256::digest(file));
        let relative = format!("{FOLDER}/{}/{name}.{}", &name[..2], extension(file));
        let (shelf, path) = (self.images.join(FOLDER).join(&name[..2]), self.images.join(&relative));
        if !path.exists() {
            fs_err::create_dir_all(&shelf)?;
            durable::write(&path, file)?;
        }
        // Its folders may be new, or it may have been written by another request this very moment: the names on the way to it have to
        // last either way, that of the shelf, that of the folder of the shelves, and its own.
        shelf.ancestors().take(3).try_for_each(durable::sync_folder)?;
        Ok(relative)
    }
}

/// By the contents; what is no known picture has been refused before.
fn extension(file: &[u8]) -> &'static str {
    match file {
        [0xff, 0xd8, ..] => "jpg",
        [0x89, b'P', b'N', b'G', ..] => "png",
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => "webp",
        [b'G', b'I', b'F', ..] => "gif",
        [b'B', b'M', ..] => "bmp",
        _ => "tiff",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_picture_is_kept_once() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let uploads = Uploads::new(folder.path().to_path_buf());
        let first = uploads.keep(b"\xff\xd8picture").expect("writable");
        assert_eq!(uploads.keep(b"\xff\xd8picture").expect("writable"), first);
        assert!(first.starts_with("uploads/") && first.ends_with(".jpg"), "{first}");
        assert_eq!(std::fs::read(folder.path().join(&first)).expect("readable"), b"\xff\xd8picture");
        assert_ne!(uploads.keep(b"\x89PNGother").expect("writable"), first);
    }
}
