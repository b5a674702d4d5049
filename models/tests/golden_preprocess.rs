//! Resizing and cropping against what the official code's preprocessing (Pillow, torchvision) makes of the same images.

mod common;

use common::golden;
use dfml_models::{DecodeLimits, RgbImage8, Transform, decode};

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
