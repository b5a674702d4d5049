//! Lists of images: which files there are, and which product each shows.

use std::{
    collections::HashMap,
    fmt::Display,
    io,
    path::{Component, Path, PathBuf},
};

use dfml_index::sop::{SopError, SopList};
use serde_json::{Map, Value};

/// Extensions of the files in a folder that are taken for images.
const EXTENSIONS: [&str; 8] = ["jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff"];

/// An image of a catalogue.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageEntry {
    /// Line of the list, from 1; of a folder, place in the order of the paths.
    pub line: usize,
    /// Id of its item; the path where the list names none.
    pub id: String,
    /// The product that it shows.
    pub product_id: String,
    /// The file, relative to [`ImageList::root`] and inside it.
    pub path: PathBuf,
    /// What the list says about it.
    pub metadata: Map<String, Value>,
}

/// The images of a catalogue.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageList {
    /// Folder that the paths start from.
    pub root: PathBuf,
    /// The images.
    pub entries: Vec<ImageEntry>,
}

/// Why a list cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// A list in the layout of Stanford Online Products.
    #[error(transparent)]
    Sop(#[from] SopError),
    /// A file or folder cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
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
    /// There is nothing in it.
    #[error("{}: there are no images here", path.display())]
    Empty {
        /// The list or folder.
        path: PathBuf,
    },
}

impl From<SopList> for ImageList {
    fn from(list: SopList) -> Self {
        let entry = |entry: dfml_index::sop::SopEntry| ImageEntry {
            line: entry.line,
            id: entry.path.to_string_lossy().into_owned(),
            product_id: entry.class_id.to_string(),
            path: entry.path,
            // Without a file of products, the list's super class is the best category there is.
            metadata: Map::from_iter([("category".to_owned(), entry.super_class_id.into())]),
        };
        Self { root: list.root, entries: list.entries.into_iter().map(entry).collect() }
    }
}

impl ImageList {
    /// Reads a list. By its extension: .jsonl has an object a line, .csv a header and a row a line, each with `path` and
    /// `product_id`, perhaps `id`, and anything else as metadata; any other is in the layout of Stanford Online Products.
    /// Paths start from `root`, or from the list's own folder. No two entries may have the same id.
    ///
    /// # Errors
    /// [`ListError`] names the file and the line.
    pub fn read(path: &Path, root: Option<&Path>) -> Result<Self, ListError> {
        let extension = path.extension().map(|extension| extension.to_string_lossy().to_lowercase());
        let list = match extension.as_deref() {
            Some("jsonl" | "ndjson") => Self::of(read_jsonl(path)?, path, root)?,
            Some("csv") => Self::of(read_csv(path)?, path, root)?,
            _ => SopList::read(path, root)?.into(),
        };
        refuse_duplicates(&list.entries, path)?;
        Ok(list)
    }

    fn of(entries: Vec<ImageEntry>, path: &Path, root: Option<&Path>) -> Result<Self, ListError> {
        if entries.is_empty() {
            return Err(ListError::Empty { path: path.to_path_buf() });
        }
        let root = root.or_else(|| path.parent()).unwrap_or_else(|| Path::new("")).to_owned();
        Ok(Self { root, entries })
    }

    /// The images of a folder and the folders in it, in the order of their paths. The first folder on the way to a file is its
    /// product; a file that lies in the folder itself is a product of its own. Links are followed, but not back to a folder on the
    /// way to them.
    ///
    /// # Errors
    /// [`ListError`] if a folder cannot be read or there are no images.
    pub fn folder(folder: &Path) -> Result<Self, ListError> {
        let mut paths = Vec::new();
        walk(folder, Path::new(""), &mut Vec::new(), &mut paths)?;
        if paths.is_empty() {
            return Err(ListError::Empty { path: folder.to_path_buf() });
        }
        paths.sort();
        let entry = |(index, path): (usize, PathBuf)| {
            let mut parts = path.components();
            let first = parts.next().map(|part| part.as_os_str().to_string_lossy().into_owned());
            let is_nested = parts.next().is_some();
            let stem = || path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
            let product = if is_nested { first } else { stem() };
            ImageEntry {
                line: index + 1,
                id: path.to_string_lossy().into_owned(),
                product_id: product.unwrap_or_default(),
                path,
                metadata: Map::new(),
            }
        };
        Ok(Self { root: folder.to_path_buf(), entries: paths.into_iter().enumerate().map(entry).collect() })
    }
}

/// Collects the images in `root/inner` and in the folders in it. `above` has the folders on the way there, all links resolved.
fn walk(
    root: &Path,
    inner: &Path,
    above: &mut Vec<PathBuf>,
    images: &mut Vec<PathBuf>,
) -> Result<(), ListError> {
    let place = root.join(inner);
    let failed = |source: io::Error| ListError::Io { path: place.clone(), source };
    let real = std::fs::canonicalize(&place).map_err(failed)?;
    if above.contains(&real) {
        // A link back to where it lies, in which there is a link back …
        return Ok(());
    }
    above.push(real);
    for entry in std::fs::read_dir(&place).map_err(failed)? {
        let path = inner.join(entry.map_err(failed)?.file_name());
        let extension = path.extension().map(|ext| ext.to_string_lossy().to_lowercase());
        if root.join(&path).is_dir() {
            walk(root, &path, above, images)?;
        } else if extension.is_some_and(|ext| EXTENSIONS.contains(&ext.as_str())) {
            images.push(path);
        }
    }
    above.pop();
    Ok(())
}

/// Entries of one id are embedded in no particular order: which of them stays would be left to chance, and another each time.
fn refuse_duplicates(entries: &[ImageEntry], path: &Path) -> Result<(), ListError> {
    let mut lines = HashMap::new();
    for entry in entries {
        if let Some(first) = lines.insert(entry.id.as_str(), entry.line) {
            return Err(at(path, entry.line, format!("item {:?} is that of line {first} again", entry.id)));
        }
    }
    Ok(())
}

fn read_jsonl(path: &Path) -> Result<Vec<ImageEntry>, ListError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| ListError::Io { path: path.to_path_buf(), source })?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(index, line)| {
            let fields: Map<String, Value> =
                serde_json::from_str(line).map_err(|error| at(path, index + 1, error))?;
            entry(index + 1, fields).map_err(|reason| at(path, index + 1, reason))
        })
        .collect()
}

fn read_csv(path: &Path) -> Result<Vec<ImageEntry>, ListError> {
    let mut reader = csv::Reader::from_path(path).map_err(|error| at(path, 1, error))?;
    let header = reader.headers().map_err(|error| at(path, 1, error))?.clone();
    let mut entries = Vec::new();
    for row in reader.records() {
        let row = row.map_err(|error| {
            let line = error.position().map_or(0, |position| position.line());
            at(path, line as usize, error)
        })?;
        let line = row.position().map_or(0, |position| position.line()) as usize;
        let fields = header.iter().zip(&row).filter(|(_, text)| !text.is_empty());
        let fields = fields.map(|(name, text)| (name.to_owned(), cell(name, text))).collect();
        entries.push(entry(line, fields).map_err(|reason| at(path, line, reason))?);
    }
    Ok(entries)
}

/// A cell's value: a number if it reads as one, but ids and paths stay text.
fn cell(name: &str, text: &str) -> Value {
    if ["path", "id", "product_id"].contains(&name) {
        return text.into();
    }
    match text {
        "true" => true.into(),
        "false" => false.into(),
        _ => {
            text.parse::<f64>().ok().and_then(serde_json::Number::from_f64).map_or(text.into(), Value::Number)
        }
    }
}

fn at(path: &Path, line: usize, reason: impl Display) -> ListError {
    ListError::Line { path: path.to_path_buf(), line, reason: reason.to_string() }
}

fn entry(line: usize, mut fields: Map<String, Value>) -> Result<ImageEntry, String> {
    let mut text = |name: &str| match fields.remove(name) {
        Some(Value::String(text)) => Ok(Some(text)),
        Some(Value::Number(number)) => Ok(Some(number.to_string())),
        None | Some(Value::Null) => Ok(None),
        Some(other) => Err(format!("{name} is {other}, not text")),
    };
    let (path, product_id, id) = (text("path")?, text("product_id")?, text("id")?);
    let path = path.ok_or("it has no path")?;
    let inside = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::CurDir);
    if path.is_empty() || !Path::new(&path).components().all(inside) {
        return Err(format!("path {path:?} does not lead to a file inside the root"));
    }
    if let Some(Value::Object(inner)) = fields.remove("metadata") {
        fields.extend(inner);
    }
    Ok(ImageEntry {
        line,
        id: id.unwrap_or_else(|| path.clone()),
        product_id: product_id.ok_or("it has no product_id")?,
        path: path.into(),
        metadata: fields,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(name: &str, text: &str) -> Result<ImageList, ListError> {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join(name), text).expect("writes");
        ImageList::read(&folder.path().join(name), Some(Path::new("root")))
    }

    #[test]
    fn jsonl_and_csv_say_the_same() {
        let jsonl = read(
            "a.jsonl",
            "{\"path\":\"a/1.jpg\",\"product_id\":7,\"price\":12.5,\"metadata\":{\"name\":\"Oak chair\"}}\n\n\
             {\"path\":\"b.jpg\",\"product_id\":\"8\",\"id\":\"bee\",\"new\":true}\n",
        );
        let csv = read(
            "a.csv",
            "path,product_id,id,price,name,new\na/1.jpg,7,,12.5,Oak chair,\nb.jpg,8,bee,,,true\n",
        );
        let (jsonl, csv) = (jsonl.expect("reads"), csv.expect("reads"));
        let parts = |list: &ImageList| {
            let entries = list.entries.iter().cloned();
            entries.map(|e| (e.id, e.product_id, e.path, e.metadata)).collect::<Vec<_>>()
        };
        assert_eq!(parts(&jsonl), parts(&csv));
        assert_eq!(jsonl.entries[0].id, "a/1.jpg");
        assert_eq!(
            Value::Object(jsonl.entries[0].metadata.clone()),
            json!({"price": 12.5, "name": "Oak chair"})
        );
        assert_eq!((csv.entries[1].id.as_str(), csv.entries[1].line), ("bee", 3));
    }

    #[test]
    fn errors_name_the_line() {
        let named = |name: &str, text: &str| read(name, text).expect_err("refused").to_string();
        assert!(
            named("a.jsonl", "{\"path\":\"a\",\"product_id\":\"p\"}\n{\"path\":\"b\"}")
                .contains("a.jsonl:2: it has no product_id")
        );
        assert!(named("a.jsonl", "{\"path\":\"../a\",\"product_id\":\"p\"}").contains("inside the root"));
        assert!(named("a.jsonl", "nothing").contains("a.jsonl:1"));
        assert!(named("a.csv", "path,product_id\na.jpg,1\nb.jpg\n").contains("a.csv:3"));
        assert!(named("a.csv", "path,product_id\n").contains("no images"));
    }

    #[test]
    fn an_id_that_comes_twice_is_refused_with_its_line() {
        let named = |name: &str, text: &str| read(name, text).expect_err("refused").to_string();
        let told = named(
            "a.jsonl",
            "{\"path\":\"a.jpg\",\"product_id\":\"p\"}\n\n{\"path\":\"b.jpg\",\"product_id\":\"q\",\"id\":\"a.jpg\"}\n",
        );
        assert!(told.contains("a.jsonl:3: item \"a.jpg\" is that of line 1 again"), "{told}");
        let told = named("a.csv", "path,product_id,id\na.jpg,1,x\nb.jpg,1,y\nc.jpg,2,x\n");
        assert!(told.contains("a.csv:4: item \"x\" is that of line 2 again"), "{told}");
        let head = "image_id class_id super_class_id path\n";
        let told = named("a.txt", &format!("{head}1 1 1 a.jpg\n2 1 1 b.jpg\n3 2 1 a.jpg\n"));
        assert!(told.contains("a.txt:4: item \"a.jpg\" is that of line 2 again"), "{told}");
        // One picture may be two items, as long as these have ids of their own.
        let twice = read("a.csv", "path,product_id,id\na.jpg,1,x\na.jpg,2,y\n").expect("reads");
        assert_eq!(twice.entries.len(), 2);
    }

    #[test]
    fn in_a_folder_the_first_folder_is_the_product() {
        let folder = tempfile::tempdir().expect("a folder");
        for path in ["chair/front.jpg", "chair/more/back.PNG", "lamp.webp", "notes.txt"] {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("makes");
            std::fs::write(path, "").expect("writes");
        }
        let list = ImageList::folder(folder.path()).expect("reads");
        let found: Vec<_> = list.entries.iter().map(|e| (e.id.as_str(), e.product_id.as_str())).collect();
        assert_eq!(
            found,
            [("chair/front.jpg", "chair"), ("chair/more/back.PNG", "chair"), ("lamp.webp", "lamp")]
        );
    }

    #[cfg(unix)]
    #[test]
    fn links_that_lead_around_are_followed_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |path: &str| folder.path().join(path);
        for path in ["chair/front.jpg", "lamp/top.jpg"] {
            std::fs::create_dir(at(path).parent().expect("a folder")).expect("makes");
            std::fs::write(at(path), "").expect("writes");
        }
        for (link, to) in
            [("chair/all", ""), ("chair/itself", "chair"), ("chair/b", "lamp"), ("lamp/a", "chair")]
        {
            std::os::unix::fs::symlink(at(to), at(link)).expect("links");
        }
        let list = ImageList::folder(folder.path()).expect("reads, and ends");
        let found: Vec<_> = list.entries.iter().map(|entry| entry.id.as_str()).collect();
        assert_eq!(found, ["chair/b/top.jpg", "chair/front.jpg", "lamp/a/front.jpg", "lamp/top.jpg"]);
    }
}
