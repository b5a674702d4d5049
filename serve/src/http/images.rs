//! The catalogue's pictures. Only files that an indexed item names, only below the image folder, only images.

use std::{
    io,
    path::{Component, Path, PathBuf},
};

use axum::{
    extract::{Path as UrlPath, Request, State, rejection::PathRejection},
    http::{HeaderValue, header},
    response::Response,
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tower::ServiceExt;
use tower_http::services::ServeFile;

use super::{ApiError, AppState, error::shortened};

/// The metadata key under which an item names its picture, relative to the image folder.
pub(super) const PATH_KEY: &str = "path";
/// Everything but unreserved characters and the slashes inside an id.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/');
/// Pictures seldom change under their id; a page that is reloaded need not ask for each of them.
const CACHE: HeaderValue = HeaderValue::from_static("private, max-age=300");

/// A folder out of which pictures, and nothing else, are served.
pub(super) struct ImageFolder {
    /// With all links resolved.
    root: PathBuf,
}

impl ImageFolder {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let root = fs_err::canonicalize(path)?;
        match fs_err::metadata(&root)?.is_dir() {
            true => Ok(Self { root }),
            false => Err(io::Error::new(io::ErrorKind::NotADirectory, "not a folder")),
        }
    }

    /// The file behind a relative path and its content type; the reason if it may not or cannot be served.
    fn find(&self, relative: &str) -> Result<(PathBuf, mime::Mime), &'static str> {
        let relative = Path::new(relative);
        if !relative
            .components()
            .all(|component| matches!(component, Component::Normal(_) | Component::CurDir))
        {
            return Err("its path leads out of the image folder");
        }
        let content_type = content_type(relative).ok_or("its file is not an image")?;
        let path = fs_err::canonicalize(self.root.join(relative)).map_err(|_| "its file is not there")?;
        // A link inside the folder can lead out of it.
        if path.starts_with(&self.root) {
            Ok((path, content_type))
        } else {
            Err("its path leads out of the image folder")
        }
    }
}

/// The address of an item's picture.
pub(super) fn url(item_id: &str) -> String {
    format!("/v1/images/{}", utf8_percent_encode(item_id, ESCAPED))
}

/// Its own part of the description.
#[derive(utoipa::OpenApi)]
#[openapi(paths(image))]
pub(super) struct ImagesDescription;

/// An item's picture
#[utoipa::path(
    get, path = "/v1/images/{item}", tag = "catalogue",
    params(("item" = String, Path, description = "The item's id; slashes may stand as they are.")),
    responses(
        (status = 200, description = "The file as it is in the image folder.", body = Vec<u8>, content_type = "image/*"),
        (status = 206, description = "The part of the file that was asked for.", body = Vec<u8>, content_type = "image/*"),
        (status = 304, description = "The file has not changed since the time that was given."),
    ),
)]
pub(super) async fn image(
    State(state): State<AppState>,
    item: Result<UrlPath<String>, PathRejection>,
    request: Request,
) -> Result<Response, ApiError> {
    // An address that is not UTF-8 names no item.
    let UrlPath(item) = item.map_err(|_| ApiError::NotFound { path: shortened(request.uri().path()) })?;
    let backend = state.backend()?;
    let refused = |reason| ApiError::NoPicture { item: shortened(&item), reason };
    if state.images().is_none() {
        return Err(refused("this server shows no pictures (it was started without --images)"));
    }
    let id = item.clone();
    // Both the index and the file system may block: not on a thread that talks to clients.
    let stored = state.ask(&backend, move |index| index.get(&id)).await??;
    let stored = stored.ok_or_else(|| refused("it is not in the index"))?;
    let relative = stored.metadata.get(PATH_KEY).and_then(|path| path.as_str()).map(str::to_owned);
    let relative = relative.ok_or_else(|| refused("it has no picture"))?;
    let folder = state.clone();
    let found = state.cpu_pool().run(move || folder.images().map(|images| images.find(&relative))).await?;
    let (path, content_type) = found.unwrap_or(Err("this server shows no pictures")).map_err(refused)?;
    let Ok(served) = ServeFile::new_with_mime(path, &content_type).oneshot(request).await;
    let mut response = served.map(axum::body::Body::new);
    if response.status().is_success() {
        response.headers_mut().insert(header::CACHE_CONTROL, CACHE);
    }
    Ok(response)
}

/// By the file's name. SVG is left out: it can carry scripts.
fn content_type(path: &Path) -> Option<mime::Mime> {
    let extension = path.extension()?.to_str()?.to_ascii_lowercase();
    let name = match extension.as_str() {
        "jpg" | "jpeg" => "image/jpeg",
        "png" => "image/png",
        "webp" => "image/webp",
        "gif" => "image/gif",
        "bmp" => "image/bmp",
        "avif" => "image/avif",
        "tif" | "tiff" => "image/tiff",
        _ => return None,
    };
    name.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_pictures_below_the_folder_and_nothing_else() {
        let place = tempfile::tempdir().expect("temporary folder");
        let root = place.path().join("images");
        fs_err::create_dir_all(root.join("chairs")).expect("create");
        for file in ["images/chairs/1.JPG", "secret.jpg", "images/notes.txt"] {
            fs_err::write(place.path().join(file), "x").expect("write");
        }
        let folder = ImageFolder::open(&root).expect("a folder");
        let (path, content_type) = folder.find("chairs/1.JPG").expect("a picture");
        assert!(path.ends_with("images/chairs/1.JPG"));
        assert_eq!(content_type, "image/jpeg");
        let absolute = place.path().join("secret.jpg");
        for outside in ["../secret.jpg", "chairs/../../secret.jpg", absolute.to_str().expect("UTF-8")] {
            assert_eq!(folder.find(outside), Err("its path leads out of the image folder"), "{outside}");
        }
        assert_eq!(folder.find("notes.txt"), Err("its file is not an image"));
        assert_eq!(folder.find("chairs/2.jpg"), Err("its file is not there"));
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(&absolute, root.join("link.jpg")).expect("link");
            assert_eq!(folder.find("link.jpg"), Err("its path leads out of the image folder"));
        }
    }

    #[test]
    fn ids_are_escaped_in_addresses() {
        assert_eq!(url("chair_final/12_3.JPG"), "/v1/images/chair_final/12_3.JPG");
        assert_eq!(url("a b?c#d%"), "/v1/images/a%20b%3Fc%23d%25");
    }
}
