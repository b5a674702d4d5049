//! The compose files and the Kubernetes manifests: against their schemas, by tools that carry these with them, and against the program.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use dfml_serve::{http::HttpOptions, metrics::Metrics, settings::Settings};
use dfml_tests::{
    binaries::{self, workspace},
    pictures, shop,
};

const COMPOSE: [&str; 2] = ["docker/compose.yml", "docker/compose.cluster.yaml"];
/// The oldest Kubernetes that the manifests are for, and the newest that the tool knows.
const KUBERNETES: [&str; 2] = ["1.33", "1.37"];
/// Files in docker/k8s that are no manifests, or only an example of one.
const NO_RESOURCES: [&str; 4] =
    ["kustomization.yaml", "prometheus-adapter.yaml", "prometheus.yml", "secrets.example.yaml"];

fn text(path: impl AsRef<Path>) -> String {
    fs_err::read_to_string(workspace().join(path)).expect("a file of the repository")
}

/// The manifests: the resources, the jobs and the example of the secrets.
fn manifests() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in ["docker/k8s", "docker/k8s/jobs"] {
        for entry in fs_err::read_dir(workspace().join(folder)).expect("a folder") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            if path.is_file() && (!NO_RESOURCES.contains(&&*name) || name.starts_with("secrets")) {
                found.push(path);
            }
        }
    }
    found.sort();
    assert!(found.len() >= 8, "{found:?}");
    found
}

/// A tool of `cargo xtask setup --with manifests`; whether it is content, and what it said.
fn tool(name: &str, arguments: &[&str], files: &[PathBuf]) -> (bool, String) {
    let program = dfml_models::cache_dir().join("manifests/bin").join(name);
    assert!(program.is_file(), "{} is missing; `cargo xtask test` fetches it", program.display());
    let output = Command::new(program).args(arguments).args(files).output().expect("it starts");
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

fn compose_is_valid(file: &Path) -> (bool, String) {
    tool("check-jsonschema", &["--builtin-schema", "vendor.compose-spec"], &[file.to_path_buf()])
}

fn manifests_are_valid(version: &str, files: &[PathBuf]) -> (bool, String) {
    tool("kubernetes-validate", &["--strict", "-k", version], files)
}

/// A copy of a file with a mistake in it.
fn seeded(path: &Path, from: &str, to: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("temporary folder");
    let good = text(path);
    assert!(good.contains(from), "{} has no {from:?}", path.display());
    let copy = folder.path().join("seeded.yaml");
    fs_err::write(&copy, good.replacen(from, to, 1)).expect("write");
    (folder, copy)
}

#[test]
fn the_compose_files_follow_the_specification_and_a_mistake_is_found() {
    for file in COMPOSE {
        let (valid, said) = compose_is_valid(&workspace().join(file));
        assert!(valid, "{file}: {said}");
        for (from, to) in [
            ("restart: unless-stopped", "restrat: unless-stopped"),
            ("read_only: true", "read_only: [yes]"),
            ("ports: [\"127.0.0.1:8080:8080\"]", "ports: 8080"),
        ] {
            let (_folder, copy) = seeded(Path::new(file), from, to);
            let (valid, said) = compose_is_valid(&copy);
            assert!(!valid, "{file} with {to:?} passed: {said}");
        }
    }
}

#[test]
fn the_manifests_follow_their_schemas_and_a_mistake_is_found() {
    for version in KUBERNETES {
        let (valid, said) = manifests_are_valid(version, &manifests());
        assert!(valid, "Kubernetes {version}: {said}");
        for (file, from, to) in [
            ("server.yaml", "periodSeconds: 10", "periodSeconds: ten"),
            ("server.yaml", "readinessProbe:", "readynessProbe:"),
            ("autoscaler.yaml", "minReplicas: 2", "minimumReplicas: 2"),
            ("autoscaler.yaml", "maxReplicas: 20", ""),
            ("qdrant.yaml", "serviceName: qdrant-nodes", "serviceName: [qdrant]"),
            ("jobs/embed.yaml", "completionMode: Indexed", "completion: Indexed"),
        ] {
            let (_folder, copy) = seeded(&Path::new("docker/k8s").join(file), from, to);
            let (valid, said) = manifests_are_valid(version, &[copy]);
            assert!(!valid, "{file} with {to:?} passed for {version}: {said}");
        }
    }
}

#[test]
fn the_kustomization_has_every_resource() {
    let list = text("docker/k8s/kustomization.yaml");
    let resources: Vec<&str> = list
        .split("resources:\n")
        .nth(1)
        .expect("resources")
        .lines()
        .map(|line| line.trim().trim_start_matches("- "))
        .collect();
    for path in manifests() {
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        let is_job = path.parent().is_some_and(|folder| folder.ends_with("jobs"));
        let belongs = !is_job && !NO_RESOURCES.contains(&&*name);
        assert_eq!(resources.contains(&&*name), belongs, "{name} in kustomization.yaml");
    }
    for name in resources {
        assert!(workspace().join("docker/k8s").join(name).is_file(), "{name} is not there");
    }
}

/// The values of a key, such as `image`.
fn values<'a>(text: &'a str, key: &str) -> Vec<&'a str> {
    let key = format!("{key}: ");
    text.lines()
        .filter_map(|line| line.trim().trim_start_matches("- ").strip_prefix(&*key))
        .map(|value| value.trim_matches('"'))
        .collect()
}

#[test]
fn images_are_pinned_and_the_engine_is_the_same_everywhere() {
    let mut engines = Vec::new();
    for file in COMPOSE.iter().map(PathBuf::from).chain(manifests()) {
        for image in values(&text(&file), "image") {
            let tag = image.split_once(':').map(|(_, tag)| tag);
            let is_ours = image == "dfml";
            assert!(
                is_ours || tag.is_some_and(|tag| tag.contains('.')),
                "{}: {image} is not pinned",
                file.display()
            );
            if image.starts_with("qdrant/") {
                engines.push(image.to_owned());
            }
        }
    }
    assert_eq!(engines.len(), 2, "{engines:?}");
    assert_eq!(engines[0], engines[1]);
    // The crate is made for servers up to one minor version away.
    let minor = |version: &str| version.split('.').nth(1)?.parse::<i32>().ok();
    let lock = text("Cargo.lock");
    if let Some(client) = lock.split("name = \"qdrant-client\"\nversion = \"").nth(1) {
        let (client, engine) = (minor(client), minor(&engines[0]));
        assert!(client.zip(engine).is_some_and(|(a, b)| (a - b).abs() <= 1), "{client:?} and {engine:?}");
    }
}

/// The servers and jobs of both have the same settings.
#[test]
fn the_settings_are_the_same_everywhere() {
    let settings = |text: &str| {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let map = text("docker/k8s/config.yaml");
    let inside = map.split("serve.toml: |\n").nth(1).expect("serve.toml");
    assert_eq!(settings(inside), settings(&text("docker/cluster/serve.toml")));
    Settings::load(Some(&workspace().join("docker/cluster/serve.toml"))).expect("every key is a setting");
}

/// The arguments that begin with `--config`, one a line.
fn arguments(text: &str) -> Vec<String> {
    let mut lines = text.lines().map(str::trim).skip_while(|line| *line != "- --config");
    let words: Vec<String> =
        lines.by_ref().map_while(|line| line.strip_prefix("- ")).map(str::to_owned).collect();
    assert!(words.len() > 5, "{words:?}");
    words
}

/// The calls of `dfml` in a script or a document, with something in the place of what the shell would put there.
fn calls(text: &str) -> Vec<Vec<String>> {
    let joined = text.replace("\\\n", " ");
    let lines = joined.lines().map(|line| line.trim().trim_start_matches("exec "));
    let dfml = lines.filter_map(|line| line.strip_prefix("dfml "));
    dfml.map(|line| {
        let line = line.split(" # ").next().unwrap_or_default().split(" > ").next().unwrap_or_default();
        line.split_whitespace().map(plain).collect()
    })
    .collect()
}

/// A word without quotes, each variable a 1.
fn plain(word: &str) -> String {
    let mut plain = String::new();
    let mut characters = word.chars().filter(|c| !['"', '\'', '{', '}'].contains(c)).peekable();
    while let Some(c) = characters.next() {
        if c == '$' {
            while characters.next_if(|c| c.is_ascii_alphanumeric() || *c == '_').is_some() {}
            plain.push('1');
        } else {
            plain.push(c);
        }
    }
    plain
}

#[test]
fn the_program_takes_what_files_and_documents_say() {
    let mut commands =
        vec![arguments(&text("docker/compose.cluster.yaml")), arguments(&text("docker/k8s/server.yaml"))];
    for file in ["docker/k8s/jobs/embed.yaml", "docker/k8s/jobs/import.yaml", "docs/scaling.md"] {
        let found = calls(&text(file));
        assert!(!found.is_empty(), "{file} has no call of dfml");
        commands.extend(found);
    }
    assert!(commands.len() >= 8, "{commands:?}");
    for words in commands {
        // Parsed, and then ended by the help that the command has.
        let output = Command::new(binaries::dfml()).args(&words).arg("--help").output().expect("dfml starts");
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

/// What a stopping server needs, and what Kubernetes would otherwise put into its environment.
#[test]
fn pods_end_in_time_and_have_no_variables_of_services() {
    let drain = HttpOptions::default().drain_timeout.as_secs();
    let server = text("docker/k8s/server.yaml");
    let grace: u64 = values(&server, "terminationGracePeriodSeconds")[0].parse().expect("seconds");
    assert!(grace > 5 + drain + 1 && server.contains("command: [sleep, \"5\"]"), "{grace} s");
    for path in manifests() {
        let text = text(&path);
        let pods = text.matches("automountServiceAccountToken: false").count();
        assert_eq!(text.matches("enableServiceLinks: false").count(), pods, "{}", path.display());
        assert_eq!(text.matches("readOnlyRootFilesystem: true").count(), pods, "{}", path.display());
    }
    for file in COMPOSE {
        // The servers', not the engine's, which is a minute.
        let text = text(file);
        let seconds = values(&text, "stop_grace_period").into_iter().map(|value| value.trim_end_matches('s'));
        let grace: Vec<u64> = seconds.filter_map(|value| value.parse().ok()).filter(|&s| s != 60).collect();
        assert!(grace.len() == 1 && grace[0] > drain + 1, "{file}: {grace:?}");
    }
}

#[test]
fn the_autoscaler_asks_for_a_metric_that_the_server_has() {
    let metrics = Metrics::new().and_then(|metrics| metrics.encode()).expect("metrics");
    let metrics = String::from_utf8(metrics).expect("text");
    for file in ["autoscaler.yaml", "prometheus-adapter.yaml"] {
        assert!(text(Path::new("docker/k8s").join(file)).contains("dfml_queue_depth"), "{file}");
    }
    assert!(metrics.contains("\ndfml_queue_depth 0\n"), "{metrics}");
}

#[test]
fn promtool_finds_nothing_wrong_with_what_is_scraped() {
    let folder = tempfile::tempdir().expect("temporary folder");
    // Debian's Prometheus is built without Kubernetes: fixed addresses take the place of what it would find there.
    let kubernetes = text("docker/k8s/prometheus.yml");
    let found = "    kubernetes_sd_configs:\n      - role: pod\n        namespaces: { names: [dfml] }\n";
    assert_eq!(kubernetes.matches(found).count(), 2);
    let fixed = kubernetes.replace(found, "    static_configs: [{ targets: [\"a:1\"] }]\n");
    for (name, text, is_valid) in [
        ("cluster.yml", text("docker/cluster/prometheus.yml"), true),
        ("k8s.yml", fixed.clone(), true),
        ("wrong.yml", fixed.replace("action: keep", "action: keeep"), false),
    ] {
        let path = folder.path().join(name);
        fs_err::write(&path, text).expect("write");
        let program = dfml_models::cache_dir().join("prometheus-2.42.0/promtool");
        assert!(program.is_file(), "{} is missing; `cargo xtask test` fetches it", program.display());
        let mut promtool = Command::new(program);
        let output =
            promtool.args(["check", "config", "--syntax-only"]).arg(path).output().expect("promtool");
        assert_eq!(output.status.success(), is_valid, "{name}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

/// The script of a job.
fn script(text: &str) -> String {
    let lines = text.lines().skip_while(|line| line.trim() != "- |").skip(1);
    let lines: Vec<&str> = lines.map_while(|line| line.strip_prefix("              ")).collect();
    assert!(lines.len() > 3, "{lines:?}");
    lines.join("\n")
}

/// The scripts of both jobs, one after the other, on this machine: every picture is in the store, each under its own id and product.
#[test]
fn the_jobs_fill_a_catalogue() {
    const PARTS: usize = 3;
    let folder = tempfile::tempdir().expect("temporary folder");
    let root = folder.path().to_str().expect("UTF-8");
    shop::write_model(&folder.path().join("model"), "tiny-random", 7);
    let paths = pictures::write_list(&folder.path().join("images"), "gallery.txt", &[0, 1, 2, 3, 4], 0..2);
    let line = |path: &String| format!("images/{path}\n");
    fs_err::write(folder.path().join("list.txt"), paths.iter().map(line).collect::<String>()).expect("write");
    let item = |(number, path): (usize, &String)| {
        serde_json::json!({ "id": path, "product_id": (number / 2).to_string(), "metadata": {} }).to_string()
            + "\n"
    };
    fs_err::write(folder.path().join("items.jsonl"), paths.iter().enumerate().map(item).collect::<String>())
        .expect("write");
    let run = |script: &str, index: usize| {
        let programs = binaries::dfml();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths(
            programs.parent().map(Path::to_path_buf).into_iter().chain(std::env::split_paths(&path)),
        );
        let output = Command::new("sh")
            .args(["-euc", script])
            .env("PATH", path.expect("folders"))
            .env("PARTS", PARTS.to_string())
            .env("JOB_COMPLETION_INDEX", index.to_string())
            .output()
            .expect("sh starts");
        assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let here = |text: String| text.replace("/files/", &format!("{root}/"));
    let embed = here(script(&text("docker/k8s/jobs/embed.yaml")));
    // Twice, as a job that is run again.
    for index in (0..PARTS).chain(0..PARTS) {
        run(&embed, index);
    }
    let import = here(script(&text("docker/k8s/jobs/import.yaml")));
    assert!(
        import.contains("index copy --from \"/data/store-$part\"")
            && import.contains("rm -r \"/data/store-$part\"")
    );
    // Into one store of this machine, in the place of the engine.
    let import: Vec<&str> =
        import.lines().filter(|line| !line.contains("index copy") && !line.contains("rm -r")).collect();
    let import = import
        .join("\n")
        .replace("/data/store-$part", &format!("{root}/store"))
        .replace("/data/", &format!("{root}/part-"));
    let said = run(&import, 0);
    assert!(said.contains(&format!("{} items; ", paths.len())), "{said}");
    let again = run(&import, 0);
    assert!(again.contains(" 0 stored"), "{again}");
    let export = run(&format!("dfml index export --catalogue {root}/store"), 0);
    let alone = run(&format!("dfml embed {root}/images/{} --model {root}/model", paths[7]), 0);
    let alone: serde_json::Value = serde_json::from_str(alone.trim()).expect("an embedding");
    let items = export.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("an item"));
    let found = items.into_iter().find(|item| item["id"] == *paths[7]).expect("the picture is in the store");
    assert_eq!(found["product_id"], "3");
    let numbers = |value: &serde_json::Value| -> Vec<f64> {
        value.as_array().expect("numbers").iter().map(|number| number.as_f64().expect("a number")).collect()
    };
    let (stored, alone) = (numbers(&found["vector"]), numbers(&alone["embedding"]));
    // Pictures that are computed together may round otherwise.
    let cosine: f64 = stored.iter().zip(&alone).map(|(a, b)| a * b).sum();
    assert!((cosine - 1.0).abs() < 1e-5, "{cosine}");
}
