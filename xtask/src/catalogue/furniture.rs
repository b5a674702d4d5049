//! Reads Sweet Home 3D furniture libraries (`.sh3f`: a zip of models, icons and a properties file).

use std::collections::HashMap;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use glam::{Mat3, Vec3};
use sha2::{Digest, Sha256};

/// The file inside every library that lists its furniture (the English one; translations are not read).
const PROPERTIES: &str = "PluginFurnitureCatalog.properties";

/// A file inside a library is never read beyond this size: the largest model of the package has 9 MB.
const MAX_FILE_BYTES: u64 = 256 << 20;

/// A zip archive held in memory, cheap to clone, so that every thread reads it on its own.
#[derive(Clone)]
pub(crate) struct Library {
    /// File name without its extension, for example `Scopia`.
    pub(crate) name: String,
    /// SHA-256 of the archive, lower-case hex.
    pub(crate) sha256: String,
    archive: zip::ZipArchive<Cursor<Arc<[u8]>>>,
}

/// One piece of furniture as its library describes it.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    /// Index of its library in the slice that [`open_all`] returned.
    pub(crate) library: usize,
    /// The library's own identifier, for example `Scopia#bed1`; unique over all libraries.
    pub(crate) source_id: String,
    pub(crate) name: String,
    pub(crate) category: String,
    pub(crate) tags: Vec<String>,
    /// Width, height, depth in centimetres.
    pub(crate) size: Vec3,
    /// Height of its lowest point above the floor, in centimetres.
    pub(crate) elevation: f32,
    /// Turns the model's axes into width (x), height (y), depth (z).
    pub(crate) rotation: Mat3,
    pub(crate) creator: String,
    pub(crate) license: String,
    /// Path of the icon inside the archive.
    pub(crate) icon: String,
    /// Path of the model inside the archive.
    pub(crate) model: String,
}

/// Opens every `.sh3f` file directly inside `folder`, in the order of their names.
pub(crate) fn open_all(folder: &Path) -> Result<Vec<Library>> {
    let mut paths: Vec<PathBuf> = fs_err::read_dir(folder)?
        .map(|entry| entry.map(|e| e.path()))
        .collect::<std::io::Result<Vec<_>>>()?
        .into_iter()
        .filter(|path| path.extension().is_some_and(|e| e.eq_ignore_ascii_case("sh3f")))
        .collect();
    paths.sort();
    ensure!(!paths.is_empty(), "{} holds no .sh3f furniture library", folder.display());
    paths.iter().map(|path| Library::open(path)).collect()
}

impl Library {
    fn open(path: &Path) -> Result<Self> {
        let bytes: Arc<[u8]> = fs_err::read(path)?.into();
        let name = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
        Self::from_bytes(name, bytes)
            .with_context(|| format!("{} is not a furniture library", path.display()))
    }

    /// Opens a library that is already in memory.
    pub(crate) fn from_bytes(name: String, bytes: Arc<[u8]>) -> Result<Self> {
        let sha256 = hex::encode(Sha256::digest(&bytes));
        let archive = zip::ZipArchive::new(Cursor::new(bytes))?;
        Ok(Self { name, sha256, archive })
    }

    /// Reads one file of the archive; a leading slash, as the properties write it, is ignored.
    pub(crate) fn read(&mut self, path: &str) -> Result<Vec<u8>> {
        let inner = path.trim_start_matches('/');
        let file =
            self.archive.by_name(inner).with_context(|| format!("library {} lacks {inner}", self.name))?;
        ensure!(file.size() <= MAX_FILE_BYTES, "{inner} in library {} has {} bytes", self.name, file.size());
        let mut bytes = Vec::with_capacity(usize::try_from(file.size()).unwrap_or(0));
        file.take(MAX_FILE_BYTES)
            .read_to_end(&mut bytes)
            .with_context(|| format!("cannot unpack {inner} of library {}", self.name))?;
        Ok(bytes)
    }

    /// Lists the furniture of this library, in the order of the properties file.
    pub(crate) fn pieces(&mut self, library: usize) -> Result<Vec<Piece>> {
        let bytes = self.read(PROPERTIES)?;
        let properties = java_properties::read(Cursor::new(bytes))
            .with_context(|| format!("{PROPERTIES} of library {} cannot be read", self.name))?;
        let license = properties.get("license").map_or_else(|| self.name.clone(), |text| squeeze(text));
        let mut pieces = Vec::new();
        for number in 1.. {
            let entry = Entry { properties: &properties, number };
            if entry.get("id").is_none() {
                break;
            }
            let piece = entry
                .piece(library, &license)
                .with_context(|| format!("entry {number} of {PROPERTIES} in library {}", self.name))?;
            pieces.push(piece);
        }
        if pieces.is_empty() {
            bail!("{PROPERTIES} of library {} lists no furniture", self.name);
        }
        Ok(pieces)
    }
}

/// The properties of one numbered entry: `name#12=…`.
struct Entry<'a> {
    properties: &'a HashMap<String, String>,
    number: usize,
}

impl Entry<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.properties.get(&format!("{key}#{}", self.number)).map(|text| text.trim())
    }

    fn required(&self, key: &str) -> Result<&str> {
        self.get(key).with_context(|| format!("property {key} is missing"))
    }

    fn number(&self, key: &str) -> Result<Option<f32>> {
        self.get(key)
            .map(|text| text.parse::<f32>().with_context(|| format!("property {key}: {text:?} is no number")))
            .transpose()
    }

    fn length(&self, key: &str) -> Result<f32> {
        let length = self.number(key)?.with_context(|| format!("property {key} is missing"))?;
        ensure!(length.is_finite() && length > 0.0, "property {key}: {length} is no length");
        Ok(length)
    }

    fn rotation(&self) -> Result<Mat3> {
        let Some(text) = self.get("modelRotation") else { return Ok(Mat3::IDENTITY) };
        let numbers: Vec<f32> = text
            .split_whitespace()
            .map(str::parse)
            .collect::<Result<_, _>>()
            .with_context(|| format!("property modelRotation: {text:?}"))?;
        let rows: [f32; 9] =
            numbers.try_into().ok().with_context(|| format!("modelRotation: {text:?} has not 9 numbers"))?;
        // The file has rows first, glam columns first.
        Ok(Mat3::from_cols_array(&rows).transpose())
    }

    fn piece(&self, library: usize, license: &str) -> Result<Piece> {
        let tags = self.get("tags").unwrap_or_default();
        Ok(Piece {
            library,
            source_id: squeeze(self.required("id")?),
            name: squeeze(self.required("name")?),
            category: squeeze(self.required("category")?),
            tags: tags.split(',').map(squeeze).filter(|tag| !tag.is_empty()).collect(),
            size: Vec3::new(self.length("width")?, self.length("height")?, self.length("depth")?),
            elevation: self.number("elevation")?.unwrap_or(0.0).max(0.0),
            rotation: self.rotation()?,
            creator: squeeze(self.get("creator").unwrap_or_default()),
            license: license.to_owned(),
            icon: self.required("icon")?.to_owned(),
            model: self.required("model")?.to_owned(),
        })
    }
}

/// Joins runs of white space into one space.
fn squeeze(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
