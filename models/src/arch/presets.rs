//! The published networks by the names that timm gives them.

use super::{Architecture, ArchitectureError, EfficientNetLite, LiteVariant, ResNet, Vit};
use crate::transform::{PixelScale, Transform};

/// A published network: dense, without embedding layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Preset {
    /// timm's name.
    pub name: String,
    /// What it is.
    pub architecture: Architecture,
    /// Side in pixels of the images it was pretrained on.
    pub image_size: u32,
    /// The scale of pixel values it was pretrained on.
    pub scale: PixelScale,
}

impl Preset {
    /// Its usual evaluation transform at its own image size: the short side is resized to 8/7 of the crop.
    pub fn transform(&self) -> Transform {
        Transform::square(self.image_size + self.image_size / 7, self.image_size, self.scale)
    }
}

/// Width, heads and name of the published transformers; all have 12 blocks, patches of 16 and 224 pixels.
const VITS: [(&str, usize, usize); 3] = [("tiny", 192, 3), ("small", 384, 6), ("base", 768, 12)];

const LITES: [(&str, LiteVariant); 5] = [
    ("efficientnet_lite0", LiteVariant::Lite0),
    ("efficientnet_lite1", LiteVariant::Lite1),
    ("efficientnet_lite2", LiteVariant::Lite2),
    ("efficientnet_lite3", LiteVariant::Lite3),
    ("efficientnet_lite4", LiteVariant::Lite4),
];

fn all() -> Vec<Preset> {
    let mut out = Vec::new();
    for (family, distilled, scale) in [
        ("vit_{}_patch16_224", false, PixelScale::Half),
        ("deit_{}_patch16_224", false, PixelScale::Imagenet),
        ("deit_{}_distilled_patch16_224", true, PixelScale::Imagenet),
    ] {
        for (size, dim, heads) in VITS {
            let architecture = Architecture::Vit(Vit {
                dim,
                heads,
                mlp_hidden: 4 * dim,
                distilled,
                ..Vit::deit_small_distilled()
            });
            out.push(Preset { name: family.replace("{}", size), architecture, image_size: 224, scale });
        }
    }
    out.push(Preset {
        name: "resnet50".to_owned(),
        architecture: Architecture::Resnet(ResNet::resnet50()),
        image_size: 224,
        scale: PixelScale::Imagenet,
    });
    out.extend(LITES.map(|(name, variant)| Preset {
        name: name.to_owned(),
        architecture: Architecture::EfficientnetLite(EfficientNetLite {
            variant,
            ..EfficientNetLite::lite0()
        }),
        image_size: variant.native_resolution(),
        scale: PixelScale::Lite,
    }));
    out
}

/// The names that [`preset`] knows.
pub fn preset_names() -> Vec<String> {
    all().into_iter().map(|preset| preset.name).collect()
}

/// The published network called `name` by timm, such as `deit_small_distilled_patch16_224`; hyphens do for underscores, and
/// the patch and image size may be left out (there is one of each).
///
/// # Errors
/// An unknown name, with those there are.
pub fn preset(name: &str) -> Result<Preset, ArchitectureError> {
    let known = all();
    let wanted = name.replace('-', "_");
    let is_it = |known: &str| known == wanted || known.strip_suffix("_patch16_224") == Some(&wanted);
    if let Some(found) = known.iter().find(|preset| is_it(&preset.name)) {
        return Ok(found.clone());
    }
    let names: Vec<&str> = known.iter().map(|preset| preset.name.as_str()).collect();
    Err(ArchitectureError::new(format!("no network is called {name}; there are {}", names.join(", "))))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parameter counts as timm and torchvision publish them, without classifiers.
    #[test]
    fn presets_have_the_published_numbers_of_parameters() {
        let classifier = |features: usize, heads: usize| heads * 1000 * (features + 1);
        for (name, published) in [
            ("deit_tiny_patch16_224", 5_717_416 - classifier(192, 1)),
            ("deit_small_patch16_224", 22_050_664 - classifier(384, 1)),
            ("deit_base_distilled_patch16_224", 87_338_192 - classifier(768, 2)),
            ("vit_base_patch16_224", 86_567_656 - classifier(768, 1)),
            ("resnet50", 25_557_032 - classifier(2048, 1)),
            ("efficientnet_lite0", 4_652_008 - classifier(1280, 1)),
            ("efficientnet_lite1", 5_416_680 - classifier(1280, 1)),
            ("efficientnet_lite2", 6_092_072 - classifier(1280, 1)),
        ] {
            let tensors = preset(name).unwrap().architecture.dense_tensors();
            let learned = tensors.iter().filter(|spec| !spec.name.contains("running_"));
            let count: usize = learned.map(|spec| spec.shape.iter().product::<usize>()).sum();
            assert_eq!(count, published, "{name}");
        }
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_known_ones() {
        let text = preset("deit_huge").unwrap_err().to_string();
        assert!(text.contains("deit_small_distilled_patch16_224") && text.contains("resnet50"), "{text}");
        assert!(preset_names().iter().all(|name| preset(name).unwrap().architecture.validate().is_ok()));
        assert_eq!(preset("deit-small").unwrap(), preset("deit_small_patch16_224").unwrap());
        assert_eq!(preset("vit_tiny_patch16_224").unwrap().transform().std, [127.5; 3]);
        assert_eq!(preset("efficientnet_lite0").unwrap().transform(), Transform::efficientnet_lite(224));
    }
}
