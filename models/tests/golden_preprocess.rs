//! Resizing and cropping against what the official code's preprocessing (Pillow, torchvision) makes of the same images.

mod common;

use common::golden;
use dfml_models::{CropBox, DecodeLimits, Picture, RgbImage8, Transform, decode};

fn read(name: &str) -> RgbImage8 {
    let bytes = std::fs::read(golden(&format!("preprocess/{name}"))).expect("a golden image");
    decode(&bytes, &DecodeLimits::default()).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Largest and mean difference of two images' values.
fn difference(a: &RgbImage8, b: &RgbImage8) -> (u8, f64) {
    assert_eq!((a.width, a.height), (b.width, b.height));
    let differences = a.data.iter().zip(&b.data).map(|(x, y)| x.abs_diff(*y));
    let largest = differences.clone().max().unwrap_or(0);
    (largest, differences.map(f64::from).sum::<f64>() / a.data.len() as f64)
}

#[test]
fn lossless_images_agree_within_one_level() {
    let transform = Transform::imagenet(256, 224);
    for name in ["landscape", "portrait", "gray", "small"] {
        let image = read(&format!("{name}.png"));
        assert_ne!(image.width, image.height, "{name}: a square image would hide swapped sides");
        let (largest, mean) =
            difference(&transform.resize_crop(&image), &read(&format!("{name}.expected.png")));
        assert!(largest <= 1, "{name}: differs by up to {largest} levels, {mean:.4} on average");
    }
}

#[test]
fn a_photo_agrees_as_far_as_jpeg_decoders_do() {
    let found = Transform::imagenet(256, 224).resize_crop(&read("photo.jpg"));
    let (largest, mean) = difference(&found, &read("photo.expected.png"));
    assert!(largest <= 8 && mean < 0.5, "differs by up to {largest} levels, {mean:.4} on average");
}

/// Columns `left..right` and rows `top..bottom` of an image, copied.
fn cut(image: &RgbImage8, [left, top, right, bottom]: [u32; 4]) -> RgbImage8 {
    let row = |y: u32| {
        let start = 3 * (y * image.width) as usize;
        &image.data[start + 3 * left as usize..start + 3 * right as usize]
    };
    let data = (top..bottom).flat_map(|y| row(y).iter().copied()).collect();
    RgbImage8::new(right - left, bottom - top, data)
}

#[test]
fn a_crop_box_hides_what_is_around_it() {
    let transform = Transform { crop_height: 96, crop_width: 80, ..Transform::imagenet(100, 96) };
    for name in ["landscape", "portrait"] {
        let bytes = std::fs::read(golden(&format!("preprocess/{name}.png"))).expect("a golden image");
        let picture = Picture::decode(&bytes, &DecodeLimits::default()).expect("an image");
        let (w, h) = (picture.width(), picture.height());
        let [left, top, right, bottom] = [w / 5, h / 3, w - w / 7, h - 9];
        let fraction = |part: u32, whole: u32| f64::from(part) / f64::from(whole);
        let part = CropBox::new(
            fraction(left, w),
            fraction(top, h),
            fraction(right - left, w),
            fraction(bottom - top, h),
        );
        let found = transform.resize_crop_of(&picture, part.expect("inside"));
        let alone = cut(&picture.into_upright(), [left, top, right, bottom]);
        assert_eq!(found, transform.resize_crop(&alone), "{name}: not the same as cutting it out first");
    }
}

#[test]
fn turning_after_resizing_is_turning_before() {
    let transform = Transform { crop_height: 20, crop_width: 16, ..Transform::imagenet(21, 20) };
    let part = CropBox::new(0.25, 0.125, 0.625, 0.75).expect("inside");
    for orientation in 1..=8 {
        let path = format!("{}/tests/data/images/orientation{orientation}.jpg", env!("CARGO_MANIFEST_DIR"));
        let bytes = std::fs::read(path).expect("a test image");
        let picture = Picture::decode(&bytes, &DecodeLimits::default()).expect("an image");
        assert_eq!((picture.width(), picture.height()), (48, 32), "orientation {orientation}");
        let upright = picture.clone().into_upright();
        for (part, expected) in [
            (CropBox::WHOLE, transform.resize_crop(&upright)),
            (part, transform.resize_crop(&cut(&upright, [12, 4, 42, 28]))),
        ] {
            let (largest, _) = difference(&transform.resize_crop_of(&picture, part), &expected);
            assert!(largest <= 1, "orientation {orientation}, {part:?}: differs by up to {largest} levels");
        }
    }
}

#[test]
fn normalising_is_per_channel_and_planar() {
    let transform = Transform { crop_height: 1, crop_width: 2, ..Transform::imagenet(2, 2) };
    let mut out = [0.0; 6];
    transform.normalize_into(&RgbImage8::new(2, 1, vec![0, 128, 255, 10, 20, 30]), &mut out);
    // torchvision: (x / 255 - mean) / std
    let expected = |x: f32, mean: f32, std: f32| (x / 255.0 - mean) / std;
    let want = [
        expected(0.0, 0.485, 0.229),
        expected(10.0, 0.485, 0.229),
        expected(128.0, 0.456, 0.224),
        expected(20.0, 0.456, 0.224),
        expected(255.0, 0.406, 0.225),
        expected(30.0, 0.406, 0.225),
    ];
    for (found, want) in out.iter().zip(want) {
        assert!((found - want).abs() < 1e-5, "{out:?} instead of {want:?}");
    }
    let lite = Transform { crop_height: 1, crop_width: 1, ..Transform::efficientnet_lite(1) };
    let mut out = [0.0; 3];
    lite.normalize_into(&RgbImage8::new(1, 1, vec![127, 255, 0]), &mut out);
    assert_eq!(out, [0.0, 1.0, -127.0 / 128.0]);
}

#[test]
fn extreme_shapes_cost_no_more_and_do_not_fail() {
    let transform = Transform { crop_height: 192, crop_width: 160, ..Transform::imagenet(192, 192) };
    for (width, height) in [(1, 1), (1, 60_000), (60_000, 1), (3, 50_000), (191, 193), (161, 4001)] {
        let image = RgbImage8::new(width, height, vec![77; 3 * (width * height) as usize]);
        let result = transform.resize_crop(&image);
        assert_eq!((result.width, result.height), (160, 192));
        assert!(result.data.iter().all(|x| *x == 77), "{width}x{height}: a flat image stays flat");
    }
}

/// Rounding never takes the box of source pixels out of the image, whatever the sizes.
#[test]
fn every_small_size_can_be_resized() {
    let transform = Transform { crop_height: 7, crop_width: 5, ..Transform::imagenet(9, 9) };
    for width in 1..=100 {
        for height in 1..=100 {
            let image = RgbImage8::new(width, height, vec![9; 3 * (width * height) as usize]);
            assert_eq!(transform.resize_crop(&image).data, [9; 3 * 7 * 5], "{width}x{height}");
        }
    }
}

#[test]
fn transforms_that_make_no_sense_are_refused() {
    let good = Transform::imagenet(256, 224);
    assert_eq!(good.validate(), Ok(()));
    let bad = [
        (Transform { resize_short: 0, ..good.clone() }, "resize_short"),
        (Transform { crop_width: 100_000, ..good.clone() }, "crop_width"),
        (Transform { resize_short: 200, ..good.clone() }, "larger than resize_short"),
        (Transform { mean: [f32::NAN; 3], ..good.clone() }, "mean"),
        (Transform { std: [1.0, 0.0, 1.0], ..good }, "std"),
    ];
    for (transform, word) in bad {
        let error = transform.validate().unwrap_err();
        assert!(error.to_string().contains(word), "{error}");
    }
}
