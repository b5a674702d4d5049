//! The demo's stages: each calls a program as a user would.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use dfml_models::Manifest;

use super::data::{Data, TRAIN};
use super::figures::{self, Retrieval};
use super::stage::{Key, Output, Stages};
use crate::command::{self, quoted, shown};
use crate::setup::Places;

/// Where the programs are, and where their results go.
pub(super) struct Steps {
    places: Places,
    work: PathBuf,
    config: PathBuf,
    /// Where cargo puts release builds.
    release: PathBuf,
    /// Sizes of the pictures that the network sees, from the training settings.
    crop: u32,
    resize_short: u32,
    dim: u32,
}

impl Steps {
    pub(super) fn new(places: Places, work: PathBuf, config: PathBuf) -> Result<Self> {
        let text = fs_err::read_to_string(&config)?;
        let settings: toml::Table = toml::from_str(&text).with_context(|| config.display().to_string())?;
        let number = |section: &str, key: &str| {
            let value =
                settings.get(section).and_then(|section| section.get(key)).and_then(toml::Value::as_integer);
            value
                .and_then(|value| u32::try_from(value).ok())
                .with_context(|| format!("{}: {section}.{key} is not a number", config.display()))
        };
        Ok(Self {
            crop: number("data", "image_size")?,
            resize_short: number("data", "resize_short")?,
            dim: number("model", "embedding_dim")?,
            release: command::target_folder()?.join("release"),
            places,
            work,
            config,
        })
    }

    /// Builds `dfml`, and `dfml-train` if it is needed; both at once, so that what they share is built once.
    pub(super) fn build(&self, with_training: bool) -> Result<()> {
        let mut cargo = command::cargo();
        cargo.args(["build", "--release", "--locked", "--package", "dfml-serve"]);
        if with_training {
            cargo.args(["--package", "dfml-train"]);
        }
        self.run(&mut cargo)
    }

    /// The model before training: the pretrained network with the principal components of its features.
    pub(super) fn export(&self, stages: &mut Stages, data: &Data) -> Result<PathBuf> {
        let (dfml, weights, out) = (self.program("dfml"), self.places.weights(), self.work.join("before"));
        let train = data.lists.join(TRAIN);
        let sizes = [self.crop, self.resize_short, self.dim].map(|number| number.to_string());
        let key = sizes.iter().fold(Key::new("export"), |key, size| key.text(size));
        let key = data.add_to(key.files([&dfml, &weights])?, &[&train])?;
        stages.run("pretrained model", key, Output::Makes(&out), || {
            let mut export = Command::new(&dfml);
            export.args(["export", "--name", "pretrained"]).arg("--weights").arg(&weights);
            export.arg("--fit-embedding").arg(&train).arg("--root").arg(&data.root);
            let [crop, resize_short, dim] = &sizes;
            export
                .args(["--crop", crop, "--resize-short", resize_short, "--dim", dim])
                .arg("--out")
                .arg(&out);
            self.run(&mut export)
        })?;
        Ok(out)
    }

    /// Trains with one seed and proves that the exported model computes what was trained. Returns the model and the
    /// seconds of training.
    pub(super) fn train(&self, stages: &mut Stages, data: &Data, seed: u64) -> Result<(PathBuf, f64)> {
        let (trainer, weights) = (self.program("dfml-train"), self.places.weights());
        let (run_dir, model) = (self.run_dir(seed), self.model_of(seed));
        let key = Key::new("train").files([&trainer, &weights, &self.config])?.text(&seed.to_string());
        let key = data.add_to(key, &[&data.lists.join(TRAIN)])?;
        stages.run(&format!("training seed {seed}"), key, Output::Makes(&run_dir), || {
            let mut fit = Command::new(&trainer);
            fit.arg("fit").arg("--config").arg(&self.config).arg("--data").arg(&data.lists);
            fit.arg("--weights").arg(&weights).arg("--out").arg(&run_dir).args(["--seed", &seed.to_string()]);
            // What an interrupted run with the same key left is gone on from.
            fit.arg("--resume");
            self.run(&mut fit)
        })?;
        let seconds = stages.timings.last().map_or(0.0, |timing| timing.seconds);
        let dfml = self.program("dfml");
        let key = Key::new("verify").file(&dfml)?.text(&fingerprint(&model)?);
        stages.run(
            &format!("parity seed {seed}"),
            key,
            Output::Amends(&model.join("manifest.json")),
            || self.run(Command::new(&dfml).arg("verify").arg(&model)),
        )?;
        Ok((model, seconds))
    }

    /// Figures of a model on every list of queries.
    pub(super) fn evaluate(
        &self,
        stages: &mut Stages,
        data: &Data,
        model: &Path,
        of: &str,
    ) -> Result<Vec<Retrieval>> {
        let dfml = self.program("dfml");
        let out = self.work.join(format!("evaluation-{}.json", of.replace(' ', "-")));
        let test = data.test();
        let gallery = if data.queries.is_empty() { &test } else { &data.gallery };
        let lists: Vec<&Path> =
            std::iter::once(gallery.as_path()).chain(data.queries.iter().map(PathBuf::as_path)).collect();
        let key = data.add_to(Key::new("evaluate").file(&dfml)?.text(&fingerprint(model)?), &lists)?;
        stages.run(&format!("evaluation {of}"), key, Output::Makes(&out), || {
            let mut eval = Command::new(&dfml);
            eval.args(["eval", "--record", "-k", "1", "-k", "10"]).arg("--model").arg(model);
            eval.arg("--root").arg(&data.root).arg("--gallery").arg(gallery);
            for list in &data.queries {
                eval.arg("--queries").arg(list);
            }
            self.run(eval.arg("--json").arg(&out))
        })?;
        figures::read(&out)
    }

    /// Puts the gallery into a store.
    pub(super) fn index(&self, stages: &mut Stages, data: &Data, model: &Path) -> Result<PathBuf> {
        let (dfml, store) = (self.program("dfml"), self.work.join("store"));
        let key = Key::new("index").file(&dfml)?.text(&fingerprint(model)?).files(&data.products)?;
        let key = data.add_to(key, &[&data.gallery])?;
        stages.run("index", key, Output::Makes(&store), || {
            let mut index = Command::new(&dfml);
            index.args(["index", "import"]).arg("--model").arg(model).arg("--catalogue").arg(&store);
            index.arg("--list").arg(&data.gallery).arg("--root").arg(&data.root);
            if let Some(products) = &data.products {
                index.arg("--products").arg(products);
            }
            self.run(&mut index)
        })?;
        Ok(store)
    }

    /// Fits what the model's similarities mean, with queries of products that it was not trained on, so that results have a
    /// probability of showing the query's product.
    pub(super) fn calibrate(
        &self,
        stages: &mut Stages,
        data: &Data,
        model: &Path,
        store: &Path,
    ) -> Result<()> {
        let (dfml, figures) = (self.program("dfml"), model.join("calibration.json"));
        let lists: Vec<&Path> = std::iter::once(data.gallery.as_path())
            .chain(data.queries.iter().map(PathBuf::as_path))
            .collect();
        let key = data.add_to(Key::new("calibrate").file(&dfml)?.text(&fingerprint(model)?), &lists)?;
        stages.run("calibration", key, Output::Makes(&figures), || {
            let mut calibrate = Command::new(&dfml);
            calibrate.arg("calibrate").arg("--model").arg(model).arg("--catalogue").arg(store);
            calibrate.arg("--root").arg(&data.root);
            for list in &data.queries {
                calibrate.arg("--queries").arg(list);
            }
            calibrate.arg("--svg").arg(model.join("reliability.svg")).arg("--json").arg(&figures);
            self.run(&mut calibrate)
        })
    }

    /// Says how to search, and becomes the server.
    pub(super) fn serve(&self, data: &Data, model: &Path, store: &Path, port: u16) -> Result<()> {
        let address = format!("127.0.0.1:{port}");
        let mut serve = Command::new(self.program("dfml"));
        serve
            .arg("serve")
            .arg("--model")
            .arg(model)
            .arg("--catalogue")
            .arg(store)
            .arg("--images")
            .arg(&data.root);
        serve.args(["--bind", &address]);
        self.set_environment(&mut serve);
        let example = data.example()?;
        println!("open http://{address} in a browser and drop a picture on it, or:\n");
        println!(
            "  curl -F image=@{} -F k=10 http://{address}/v1/search\n",
            quoted(&example.to_string_lossy())
        );
        println!("the server, which Ctrl-C ends: {}\n", shown(&serve));
        // Signals then reach the server itself, and its exit code is this command's.
        let error = std::os::unix::process::CommandExt::exec(&mut serve);
        bail!("cannot start `{}`: {error}", shown(&serve));
    }

    /// The model that a seed trained.
    pub(super) fn model_of(&self, seed: u64) -> PathBuf {
        self.run_dir(seed).join("model")
    }

    fn run_dir(&self, seed: u64) -> PathBuf {
        self.work.join(format!("seed-{seed}"))
    }

    fn program(&self, name: &str) -> PathBuf {
        self.release.join(name)
    }

    fn run(&self, command: &mut Command) -> Result<()> {
        self.set_environment(command);
        eprintln!("{}", shown(command));
        command::run(command)
    }

    fn set_environment(&self, command: &mut Command) {
        for (name, path) in self.places.environment() {
            if path.exists() {
                command.env(name, path);
            }
        }
        command.env("DFML_CACHE_DIR", &self.places.cache);
    }
}

/// What tells a model from every other.
fn fingerprint(model: &Path) -> Result<String> {
    Ok(Manifest::load(model)?.fingerprint())
}

/// Size of all files below a folder.
pub(super) fn bytes_below(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs_err::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() { bytes_below(&entry.path())? } else { metadata.len() };
    }
    Ok(bytes)
}
