//! `dfml key`: a new API key.

use dfml_serve::access::{NewKey, Scope};

use super::Done;

/// Make an API key: the secret for the client, and its entry for the key file.
///
/// The secret is printed once and stored nowhere; the entry holds only its SHA-256.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  dfml key shop-app >> keys.toml                  the secret is shown on standard error
  dfml key loader --scope write >> keys.toml
  curl -H 'authorization: Bearer dfml_…' -F image=@chair.jpg http://127.0.0.1:8080/v1/search")]
pub(super) struct Args {
    /// Name of the key: for logs and rate limits.
    #[arg(value_name = "NAME")]
    name: String,
    /// What it may be used for: read, write or admin; each includes the ones before it.
    #[arg(long, default_value_t = Scope::Read)]
    scope: Scope,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Done> {
    let key = NewKey::generate();
    let entry =
        format!("[[key]]\nname = {:?}\nscope = \"{}\"\ndigest = \"{}\"\n", args.name, args.scope, key.digest);
    // Refuses a name that the key file could not hold.
    dfml_serve::access::KeyRing::from_toml(&entry).map_err(anyhow::Error::msg)?;
    eprintln!("secret of {:?}, shown only now: {}", args.name, key.secret);
    print!("{entry}");
    Ok(Done::Complete)
}
