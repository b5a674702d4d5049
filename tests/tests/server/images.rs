//! The Dockerfiles: linted, and their steps tried as far as that goes without Docker.

use std::process::Command;

use dfml_tests::binaries::{self, workspace};

const FILES: [&str; 3] = ["Dockerfile", "Dockerfile.cuda", "Dockerfile.train"];

fn text(file: &str) -> String {
    fs_err::read_to_string(workspace().join("docker").join(file)).expect("a Dockerfile")
}

#[test]
fn hadolint_finds_nothing() {
    let program = dfml_models::cache_dir().join("hadolint-2.15.1/hadolint");
    assert!(program.is_file(), "{} is missing; `cargo xtask test` fetches it", program.display());
    let output = Command::new(program)
        .current_dir(workspace().join("docker"))
        .args(FILES)
        .output()
        .expect("hadolint starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn images_are_pinned_and_run_without_root() {
    for file in FILES {
        let text = text(file);
        for from in text.lines().filter(|line| line.starts_with("FROM ")) {
            let image = from.split_whitespace().nth(1).expect("an image");
            let tag = image.split_once(':').unwrap_or_else(|| panic!("{file}: {image} has no tag")).1;
            assert!(tag != "latest" && tag.contains('.'), "{file}: {image} is not pinned");
        }
        let last = text.rsplit("\nFROM ").next().expect("a last stage");
        assert!(last.contains("\nUSER 10001\n") && last.contains("HEALTHCHECK"), "{file}");
    }
}

/// The commands and flags of the images are the program's own.
#[test]
fn the_programs_take_what_the_images_say() {
    for file in ["Dockerfile", "Dockerfile.cuda"] {
        let text = text(file).replace("\\\n", " ");
        for line in text
            .lines()
            .filter(|line| line.starts_with("CMD ") || line.trim_start().starts_with("HEALTHCHECK"))
        {
            let array = &line[line.find('[').expect("an array")..];
            let mut words: Vec<String> = serde_json::from_str(array).expect("an array of words");
            words.retain(|word| word != "dfml");
            // Parsed, and then ended by the help that the command has.
            let output =
                Command::new(binaries::dfml()).args(&words).arg("--help").output().expect("dfml starts");
            assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
    }
}

/// What the stages copy is there, and the pins of pip are those of the set-up.
#[test]
fn the_files_and_pins_of_the_images_are_those_of_the_repository() {
    for path in
        ["configs/serve.toml", "configs/train", "docker/onnxruntime.txt", "docker/onnxruntime-gpu.txt"]
    {
        assert!(workspace().join(path).exists(), "{path}");
    }
    let archives = fs_err::read_to_string(workspace().join("xtask/src/setup/archives.rs")).expect("the pins");
    let pins = fs_err::read_to_string(workspace().join("docker/onnxruntime.txt")).expect("the pins");
    for hash in pins.split("sha256:").skip(1).map(|rest| rest.split_whitespace().next().expect("a hash")) {
        assert!(archives.contains(hash), "{hash} is not the set-up's");
    }
}
