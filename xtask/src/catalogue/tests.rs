//! Builds whole catalogues from a furniture library made here, and looks at the files.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write as _;
use std::io::{Cursor, Write as _};
use std::path::Path;

use glam::{Mat3, Vec2, Vec3};
use zip::write::SimpleFileOptions;

use super::mesh::Mesh;
use super::scene::{Scene, Shape};
use super::{Options, build, render};

/// Corners and faces of an axis-parallel box; `first` is the number of its first vertex.
fn cuboid(low: [f32; 3], high: [f32; 3], first: usize) -> String {
    let mut text = String::new();
    for corner in 0..8 {
        let [x, y, z] = [0, 1, 2].map(|axis| if corner >> axis & 1 == 1 { high[axis] } else { low[axis] });
        writeln!(text, "v {x} {y} {z}").unwrap();
    }
    for [a, b, c, d] in [[0, 2, 3, 1], [4, 5, 7, 6], [0, 1, 5, 4], [2, 6, 7, 3], [0, 4, 6, 2], [1, 3, 7, 5]] {
        let [a, b, c, d] = [a, b, c, d].map(|corner| corner + first);
        writeln!(text, "f {a} {b} {c} {d}").unwrap();
    }
    text
}

/// A blue box on the left and a red one, twice as high, on the right.
fn two_boxes() -> String {
    let left = cuboid([-2.0, 0.0, -1.0], [-0.2, 1.0, 1.0], 1);
    let right = cuboid([0.2, 0.0, -1.0], [2.0, 2.0, 1.0], 9);
    format!("mtllib two.mtl\nusemtl blue\n{left}usemtl red\n{right}")
}

const MATERIALS: &str = "newmtl blue\nKd 0.02 0.05 0.9\nnewmtl red\nKd 0.9 0.05 0.02\nd 1\n\
    newmtl printed\nKd 0 0 0\nmap_Kd picture.png\nnewmtl glass\nKd 0.5 0.9 0.5\nd 0.3\n";

/// A 4 x 4 PNG: yellow, with a transparent corner.
fn picture() -> Vec<u8> {
    let mut picture = image::RgbaImage::from_pixel(4, 4, image::Rgba([250, 220, 10, 255]));
    picture.put_pixel(0, 0, image::Rgba([0, 0, 0, 0]));
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

fn library() -> Vec<u8> {
    let printed = "mtllib two.mtl\nusemtl printed\nv 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nvt 0 0\nvt 1 0\nvt 1 1\nvt 0 1\n\
        f 1/1 2/2 3/3 4/4\n";
    let glass = format!("mtllib two.mtl\nusemtl glass\n{}", cuboid([0.0; 3], [1.0, 3.0, 1.0], 1));
    let models = [
        ("two", "Two boxes", 40.0, two_boxes()),
        ("large", "Two boxes, large", 400.0, two_boxes()),
        ("print", "Print", 60.0, printed.to_owned()),
        ("glass", "Vitrine", 50.0, glass),
        ("broken", "Broken", 50.0, "f 1 2 3\n".to_owned()),
        ("cube", "Cube", 50.0, cuboid([0.0; 3], [1.0; 3], 1)),
    ];
    let mut properties = String::from("# a comment\nlicense=CC0  \\u00a9 nobody\n");
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let mut add = |name: &str, bytes: &[u8]| {
        zip.start_file(name, SimpleFileOptions::default()).unwrap();
        zip.write_all(bytes).unwrap();
    };
    for (number, (id, name, width, obj)) in (1..).zip(&models) {
        let depth = width / 2.0;
        writeln!(
            properties,
            "id#{number}=Test#{id}\nname#{number}={name}\ncategory#{number}=Living room\ntags#{number}=a, b\n\
             icon#{number}=/m/{id}.png\nmodel#{number}=/m/{id}.obj\nwidth#{number}={width}\ndepth#{number}={depth}\n\
             height#{number}={depth}\ncreator#{number}=Zo\\u00eb"
        )
        .unwrap();
        add(&format!("m/{id}.obj"), obj.as_bytes());
        add(&format!("m/{id}.png"), &picture());
    }
    add("m/two.mtl", MATERIALS.as_bytes());
    add("m/picture.png", &picture());
    add("PluginFurnitureCatalog.properties", properties.as_bytes());
    zip.finish().unwrap().into_inner()
}

fn options(folder: &Path) -> Options {
    let furniture = folder.join("furniture");
    fs_err::create_dir_all(&furniture).unwrap();
    fs_err::write(furniture.join("Test.sh3f"), library()).unwrap();
    let out = folder.join("catalogue");
    Options { furniture, out, seed: 3, views: 2, query_views: 1, size: 64, limit: 0, force: false }
}

/// Relative path -> content of every file but the one that holds the time taken.
fn contents(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs_err::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.file_name().is_some_and(|name| name != "catalogue.json") {
                let name = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
                files.insert(name, fs_err::read(&path).unwrap());
            }
        }
    }
    files
}

fn build_with_threads(options: &Options, threads: usize) -> super::Summary {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.install(|| build(options)).unwrap()
}

#[test]
fn one_and_two_threads_write_the_same_bytes() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let one = build_with_threads(&options(first.path()), 1);
    build_with_threads(&options(second.path()), 2);
    assert_eq!((one.products, one.duplicates, one.unreadable), (4, 1, 1));
    assert_eq!(one.images, 4 * (2 + 1 + 1));
    let files = contents(&first.path().join("catalogue"));
    assert_eq!(files, contents(&second.path().join("catalogue")));

    let other = tempfile::tempdir().unwrap();
    build(&Options { seed: 4, ..options(other.path()) }).unwrap();
    let other = contents(&other.path().join("catalogue"));
    assert_ne!(files["living_room_final/1_0.JPG"], other["living_room_final/1_0.JPG"]);
    assert_ne!(files["living_room_final/1_0.JPG"], files["living_room_final/1_1.JPG"]);
}

#[test]
fn an_interrupted_catalogue_is_completed() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(folder.path());
    let summary = build(&options).unwrap();
    let files = contents(&options.out);
    assert_eq!(build(&options).unwrap(), summary, "a complete catalogue is left alone");

    fs_err::remove_file(options.out.join("catalogue.json")).unwrap();
    fs_err::remove_file(options.out.join("living_room_final/2_1.JPG")).unwrap();
    fs_err::write(options.out.join("living_room_final/99_0.JPG"), "left from an earlier catalogue").unwrap();
    build(&options).unwrap();
    assert_eq!(contents(&options.out), files);
}

#[test]
fn lists_split_the_products_and_name_existing_pictures() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(folder.path());
    build(&options).unwrap();
    let list = |name: &str| -> Vec<(u64, u64, String)> {
        let text = fs_err::read_to_string(options.out.join(name)).unwrap();
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some("image_id class_id super_class_id path"));
        lines
            .map(|line| {
                let [image, class, super_class, path] =
                    line.split(' ').collect::<Vec<_>>().try_into().unwrap();
                assert_eq!(super_class, "1");
                assert!(options.out.join(path).is_file(), "{path}");
                (image.parse().unwrap(), class.parse().unwrap(), path.to_owned())
            })
            .collect()
    };
    let classes = |list: &[(u64, u64, String)]| list.iter().map(|line| line.1).collect::<HashSet<_>>();
    let (train, test, gallery) = (list("Ebay_train.txt"), list("Ebay_test.txt"), list("gallery.txt"));
    let (views, icons) = (list("query_views.txt"), list("query_icons.txt"));
    assert!(classes(&train).is_disjoint(&classes(&test)));
    assert_eq!((classes(&train).len(), classes(&test).len()), (2, 2));
    assert_eq!(train.len() + test.len(), gallery.len());
    assert_eq!(classes(&views), classes(&test));
    assert_eq!(classes(&icons), classes(&test));
    let mut ids = HashMap::new();
    for (image, _, path) in train.iter().chain(&test).chain(&gallery).chain(&views).chain(&icons) {
        assert_eq!(ids.entry(image).or_insert(path), &path, "an image id means one picture");
    }

    let products = fs_err::read_to_string(options.out.join("products.jsonl")).unwrap();
    let first: serde_json::Value = serde_json::from_str(products.lines().next().unwrap()).unwrap();
    assert_eq!(first["name"], "Two boxes");
    assert_eq!(first["creator"], "Zoë");
    assert_eq!(first["license"], "CC0 © nobody");
    assert_eq!(first["width_cm"], 40.0);
    assert_eq!(first["images"].as_array().unwrap().len(), 2);
    let twins = fs_err::read_to_string(options.out.join("look-alikes.tsv")).unwrap();
    assert_eq!(twins, "left out\tkept\nTest#large\tTest#two\n");
}

fn mesh(obj: &str) -> Mesh {
    let mut read = |name: &str| Ok(if name == "two.mtl" { MATERIALS.as_bytes().to_vec() } else { picture() });
    Mesh::load(obj.as_bytes(), &mut read, Mat3::IDENTITY, Vec3::new(40.0, 20.0, 20.0)).unwrap()
}

#[test]
fn faces_may_come_before_their_vertices() {
    let late = mesh("usemtl red\nf 1 2 3\nv 0 0 0\nv 1 0 0\nv 0 1 0\n");
    assert_eq!((late.triangles.len(), late.size), (1, Vec3::new(40.0, 20.0, 0.0)));
}

/// Mean place (pixels, y down) of the pixels in which `channel` dominates, and their number.
fn centroid(picture: &image::RgbImage, channel: usize) -> (Vec2, usize) {
    let (mut sum, mut count) = (Vec2::ZERO, 0);
    for (x, y, pixel) in picture.enumerate_pixels() {
        let others = (0..3).filter(|&c| c != channel).map(|c| pixel.0[c]).max().unwrap();
        if i32::from(pixel.0[channel]) > i32::from(others) + 60 {
            sum += Vec2::new(x as f32, y as f32);
            count += 1;
        }
    }
    (sum / count.max(1) as f32, count)
}

#[test]
fn the_front_view_is_upright_lit_and_not_mirrored() {
    let mesh = mesh(&two_boxes());
    let shape = Shape { size: mesh.size, elevation: 0.0 };
    let picture = render::render(&mesh, &shape, &Scene::canonical(0.0), 96);
    let ((red, reds), (blue, blues)) = (centroid(&picture, 0), centroid(&picture, 2));
    assert!(reds > 300 && blues > 100, "{reds} red and {blues} blue pixels");
    assert!(red.x > blue.x + 20.0, "red {red} is right of blue {blue}");
    assert!(red.y < blue.y - 3.0, "the higher box reaches further up");
    let backdrop = picture.get_pixel(0, 0);
    let rim = (0..96).flat_map(|i| [(i, 0), (i, 95), (0, i), (95, i)]);
    assert!(rim.into_iter().all(|(x, y)| picture.get_pixel(x, y) == backdrop), "nothing touches the rim");

    let behind = render::render(&mesh, &shape, &Scene::canonical(std::f32::consts::PI), 96);
    assert!(centroid(&behind, 0).0.x < centroid(&behind, 2).0.x, "from behind, left and right change places");
}

#[test]
fn the_near_box_hides_the_far_one() {
    let near = cuboid([-1.0, 0.0, 1.0], [1.0, 2.0, 1.5], 1);
    let far = cuboid([-1.0, 0.0, -1.5], [1.0, 1.5, -1.0], 9);
    // The file's order must not decide.
    for order in
        [format!("usemtl red\n{near}usemtl blue\n{far}"), format!("usemtl blue\n{near}usemtl red\n{far}")]
    {
        let mesh = mesh(&format!("mtllib two.mtl\n{order}"));
        let shape = Shape { size: mesh.size, elevation: 0.0 };
        let mut scene = Scene::canonical(0.0);
        scene.viewpoint.elevation = 0.0;
        let picture = render::render(&mesh, &shape, &scene, 64);
        let (front, back) = if order.starts_with("usemtl red") { (0, 2) } else { (2, 0) };
        assert!(centroid(&picture, front).1 > 500);
        assert_eq!(centroid(&picture, back).1, 0);
    }
}

#[test]
fn textures_show_with_their_holes_and_glass_lets_through() {
    let sheet = "mtllib two.mtl\nusemtl printed\nv 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nvt 0 0\nvt 1 0\nvt 1 1\nvt 0 1\n\
        f 1/1 2/2 3/3 4/4\n";
    let mut scene = Scene::canonical(0.0);
    scene.viewpoint.elevation = 0.0;
    let view = |obj: &str| {
        let mesh = mesh(obj);
        render::render(&mesh, &Shape { size: mesh.size, elevation: 0.0 }, &scene, 64)
    };
    let printed = view(sheet);
    let middle = printed.get_pixel(32, 32).0;
    assert!(middle[0] > 150 && middle[1] > 120 && middle[2] < 90, "yellow, not {middle:?}");
    // The transparent texel is the top left one of four by four: the sheet spans 61 x 30 pixels around the middle.
    assert_eq!(printed.get_pixel(5, 20), printed.get_pixel(0, 0), "the hole shows the backdrop");
    assert_ne!(printed.get_pixel(58, 20), printed.get_pixel(0, 0), "the other corner does not");

    let back = cuboid([0.0, 0.0, -1.0], [1.0, 1.0, -0.9], 1);
    let pane = cuboid([0.0, 0.0, 0.9], [1.0, 1.0, 1.0], 9);
    let through =
        view(&format!("mtllib two.mtl\nusemtl red\n{back}usemtl glass\n{pane}")).get_pixel(32, 32).0;
    let bare = view(&format!("mtllib two.mtl\nusemtl red\n{back}")).get_pixel(32, 32).0;
    assert!(through[0] > 100 && through[0] > through[1], "red shines through the pane: {through:?}");
    assert!(through[1] > bare[1] + 15, "the pane is greenish: {through:?} against {bare:?}");
}
