//! The clusters as a page that needs nothing else: no scripts, and pictures from where the catalogue has them.

use std::{
    fmt::{self, Display, Formatter},
    io::{self, Write},
};

use super::Cluster;

/// Most clusters that are shown; all are in the JSON lines.
const SHOWN: usize = 500;

const HEAD: &str = r#"<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Duplicates</title>
<style>
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
section { border-top: 1px solid #8884; padding: 1rem 0; }
ul { display: flex; flex-wrap: wrap; gap: .8rem; list-style: none; padding: 0; margin: .5rem 0 0; }
li { width: 10rem; font-size: .85rem; overflow-wrap: anywhere; }
img { width: 10rem; height: 10rem; object-fit: contain; background: #fff; border-radius: .5rem; }
h2 { font-size: 1.05rem; margin: 0; } p { margin: 0; }
</style>
"#;

/// Writes the report. `images` goes before each item's path, e.g. the catalogue's folder and a slash.
///
/// # Errors
/// The output cannot be written.
pub fn write_html(out: &mut dyn Write, clusters: &[Cluster], threshold: f32, images: &str) -> io::Result<()> {
    let items: usize = clusters.iter().map(|cluster| cluster.items.len()).sum();
    out.write_all(HEAD.as_bytes())?;
    writeln!(
        out,
        "<h1>Duplicates</h1>\n<p>{} clusters of {items} items, similarity at least {threshold:.4}.</p>",
        clusters.len()
    )?;
    for (number, cluster) in clusters.iter().take(SHOWN).enumerate() {
        let [least, most] = cluster.similarity;
        writeln!(
            out,
            "<section>\n<h2>{}. {} items of {} products</h2>\n<p>similarity {least:.4} to {most:.4}</p>\n<ul>",
            number + 1,
            cluster.items.len(),
            cluster.products
        )?;
        for item in &cluster.items {
            write!(out, "<li>")?;
            if let Some(path) = &item.path {
                write!(out, "<img src=\"{}{}\" alt=\"\" loading=\"lazy\">", Escaped(images), Escaped(path))?;
            }
            let name = item.name.as_deref().unwrap_or("");
            writeln!(
                out,
                "<br>{} <b>{}</b><br>{}</li>",
                Escaped(name),
                Escaped(&item.product_id),
                Escaped(&item.item_id)
            )?;
        }
        writeln!(out, "</ul>\n</section>")?;
    }
    if clusters.len() > SHOWN {
        writeln!(out, "<p>The first {SHOWN} clusters are shown; the JSON lines have all of them.</p>")?;
    }
    writeln!(out, "</html>")
}

/// Text that means itself in HTML.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '&' => formatter.write_str("&amp;")?,
                '<' => formatter.write_str("&lt;")?,
                '>' => formatter.write_str("&gt;")?,
                '"' => formatter.write_str("&quot;")?,
                other => write!(formatter, "{other}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Member, *};

    #[test]
    fn names_cannot_break_out_of_the_page() {
        let member = |id: &str| Member {
            item_id: id.to_owned(),
            product_id: "p".to_owned(),
            name: Some("<script>alert(1)</script>".to_owned()),
            path: Some("a\" onerror=\"x.jpg".to_owned()),
        };
        let cluster =
            Cluster { similarity: [0.98, 0.99], products: 1, items: vec![member("a"), member("b")] };
        let mut page = Vec::new();
        write_html(&mut page, &[cluster], 0.97, "images/").expect("into memory");
        let page = String::from_utf8(page).expect("UTF-8");
        assert!(page.contains("1 clusters of 2 items") && page.contains("0.9800 to 0.9900"), "{page}");
        assert!(!page.contains("<script") && !page.contains("onerror=\""), "{page}");
        assert!(page.contains("src=\"images/a&quot; onerror"), "{page}");
    }
}
