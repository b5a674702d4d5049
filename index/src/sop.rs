//! List files in the layout of Stanford Online Products: one image a line,
//! `image_id class_id super_class_id path`, with that line as header.

use std::{
    fs, io,
    path::{Component, Path, PathBuf},
};

/// The first line of every list.
const HEADER: [&str; 4] = ["image_id", "class_id", "super_class_id", "path"];

/// The images of a list file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SopList {
    /// Folder that the paths start from.
    pub root: PathBuf,
    /// The images, in the order of the file.
    pub entries: Vec<SopEntry>,
}

/// One image of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SopEntry {
    /// Line in the file, from 1.
    pub line: usize,
    /// Number or name of the image.
    pub image_id: String,
    /// The product; images of one product share it.
    pub class_id: u64,
    /// The kind of product.
    pub super_class_id: String,
    /// Image file, relative to [`SopList::root`] and inside it.
    pub path: PathBuf,
}

/// Why a list cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SopError {
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The list.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A line is not as it should be.
    #[error("{}:{line}: {reason}", path.display())]
    Line {
        /// The list.
        path: PathBuf,
        /// Line number, from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
}

/// Reads a list whose paths start from its own folder.
///
/// # Errors
/// As [`SopList::read`].
pub fn read(path: impl AsRef<Path>) -> Result<SopList, SopError> {
    SopList::read(path, None)
}

impl SopList {
    /// Reads a list. Its paths start from `root`, or from the list's own folder. Fields are separated by spaces or tabs; the
    /// path is the rest of the line. Blank lines are passed over; lines may end in CR LF.
    ///
    /// # Errors
    /// The file cannot be read or lacks the header; a line (which is named) has too few fields, a class that is no number,
    /// or a path that is absolute or leads out of the root.
    pub fn read(path: impl AsRef<Path>, root: Option<&Path>) -> Result<Self, SopError> {
        let path = path.as_ref();
        let bytes = fs::read(path).map_err(|source| SopError::Io { path: path.to_owned(), source })?;
        let root = root.or_else(|| path.parent()).unwrap_or_else(|| Path::new("")).to_owned();
        let entries =
            parse(&bytes).map_err(|(line, reason)| SopError::Line { path: path.to_owned(), line, reason })?;
        Ok(Self { root, entries })
    }
}

/// The entries of a list, or the line that is wrong and why.
fn parse(bytes: &[u8]) -> Result<Vec<SopEntry>, (usize, String)> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut header_seen = false;
    let mut entries = Vec::new();
    for (index, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
        let number = index + 1;
        let text =
            std::str::from_utf8(line).map_err(|_| (number, "this is not UTF-8 text".to_owned()))?.trim();
        if text.is_empty() {
            continue;
        }
        if header_seen {
            entries.push(parse_entry(number, text).map_err(|reason| (number, reason))?);
        } else if text.split_whitespace().eq(HEADER) {
            header_seen = true;
        } else {
            return Err((
                number,
                format!("the first line must be the header `{}`, not {text:?}", HEADER.join(" ")),
            ));
        }
    }
    if header_seen {
        Ok(entries)
    } else {
        Err((1, "the list is empty; it must start with a header".to_owned()))
    }
}

fn parse_entry(line: usize, text: &str) -> Result<SopEntry, String> {
    let mut rest = text;
    let mut field = |name: &str| {
        let (field, tail) = rest.split_once([' ', '\t']).ok_or_else(|| {
            format!("the field after `{name}` is missing; a line is `{}`", HEADER.join(" "))
        })?;
        rest = tail.trim_start();
        Ok::<_, String>(field.to_owned())
    };
    let image_id = field(HEADER[0])?;
    let class = field(HEADER[1])?;
    let super_class_id = field(HEADER[2])?;
    let class_id = class.parse().map_err(|_| format!("class_id {class:?} is not a number from 0 up"))?;
    let path = PathBuf::from(rest);
    if !path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
        return Err(format!("path {rest:?} leads out of the catalogue's folder"));
    }
    Ok(SopEntry { line, image_id, class_id, super_class_id, path })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        let folder = tempfile::tempdir().expect("a folder");
        let list = folder.path().join("list.txt");
        fs::write(&list, text).expect("writes");
        let error = read(&list).expect_err("must be refused").to_string();
        error.strip_prefix(&list.display().to_string()).expect("names the file").to_owned()
    }

    #[test]
    fn reads_crlf_tabs_blank_lines_and_paths_with_spaces() {
        let text = "\u{feff}image_id class_id super_class_id path\r\n1 10 2 chair_final/10_0.JPG\r\n\r\n2\t11  3 my lamps/a b.jpg\n\n";
        let entries = parse(text.as_bytes()).expect("a list");
        let entry = |line, image: &str, class_id, super_class: &str, path: &str| SopEntry {
            line,
            image_id: image.into(),
            class_id,
            super_class_id: super_class.into(),
            path: path.into(),
        };
        assert_eq!(
            entries,
            [entry(2, "1", 10, "2", "chair_final/10_0.JPG"), entry(4, "2", 11, "3", "my lamps/a b.jpg")]
        );
    }

    #[test]
    fn the_root_is_the_lists_folder_unless_given() {
        let folder = tempfile::tempdir().expect("a folder");
        let list = folder.path().join("list.txt");
        fs::write(&list, "image_id class_id super_class_id path\n").expect("writes");
        assert_eq!(read(&list).expect("reads").root, folder.path());
        let elsewhere = Path::new("elsewhere");
        assert_eq!(SopList::read(&list, Some(elsewhere)).expect("reads").root, elsewhere);
    }

    #[test]
    fn errors_name_file_and_line() {
        let head = "image_id class_id super_class_id path\n";
        assert!(error("1 1 1 a.jpg\n").starts_with(":1: the first line must be the header"));
        assert!(error(" \n").starts_with(":1: the list is empty"));
        assert!(error(&format!("{head}\n1 x 1 a.jpg\n")).starts_with(":3: class_id \"x\""));
        assert!(error(&format!("{head}1 -1 1 a.jpg\n")).starts_with(":2: class_id"));
        assert!(
            error(&format!("{head}1 1 1\n")).starts_with(":2: the field after `super_class_id` is missing")
        );
        assert!(
            error(&format!("{head}1 1 1 ../../etc/passwd\n"))
                .contains(":2: path \"../../etc/passwd\" leads out")
        );
        assert!(error(&format!("{head}1 1 1 /etc/passwd\n")).contains("leads out"));
        let absent = read("/nowhere/list.txt").expect_err("must be refused").to_string();
        assert!(absent.starts_with("/nowhere/list.txt: "), "{absent}");
    }

    #[test]
    fn text_must_be_utf8() {
        assert_eq!(
            parse(b"image_id class_id super_class_id path\n1 1 1 \xff.jpg\n").expect_err("refused").0,
            2
        );
    }
}
