//! Load on a server on this machine, from the command line; prints a JSON report.
//!
//!     cargo run --release -p dfml-tests --example load -- open --rate 90 --seconds 60 --url http://127.0.0.1:8080/v1/search PICTURES
//!     cargo run --release -p dfml-tests --example load -- closed --clients 8 --seconds 20 --url http://127.0.0.1:8080/v1/search PICTURES

use std::{net::ToSocketAddrs, path::PathBuf, sync::Arc, time::Duration};

use clap::{Parser, Subcommand};
use dfml_tests::load::{Question, closed_loop, open_loop};

/// Longest run, so that a forgotten one ends by itself.
const SECONDS_MAX: u64 = 2 * 3600;

#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    mode: Mode,
}

#[derive(Subcommand)]
enum Mode {
    /// Requests come at a rate, whether or not the ones before are answered.
    Open {
        /// Requests per second.
        #[arg(long)]
        rate: f64,
        #[command(flatten)]
        common: Common,
    },
    /// So many clients, each with one request at a time.
    Closed {
        /// Clients.
        #[arg(long)]
        clients: usize,
        #[command(flatten)]
        common: Common,
    },
}

#[derive(clap::Args)]
struct Common {
    /// How long, in seconds.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=SECONDS_MAX))]
    seconds: u64,
    /// Where to; this machine only.
    #[arg(long)]
    url: url::Url,
    /// Pictures to search with, in turn.
    #[arg(required = true)]
    pictures: Vec<PathBuf>,
}

impl Common {
    fn question(&self) -> Result<Question, Box<dyn std::error::Error>> {
        let host = self.url.host_str().ok_or("the address names no host")?;
        let port = self.url.port_or_known_default().unwrap_or(80);
        if !(host, port).to_socket_addrs()?.all(|address| address.ip().is_loopback()) {
            return Err("load is for servers on this machine only".into());
        }
        let bodies = self.pictures.iter().map(fs_err::read).collect::<Result<Vec<_>, _>>()?;
        Ok(Question {
            url: self.url.to_string(),
            content_type: "image/jpeg".to_owned(),
            bodies: Arc::new(bodies),
        })
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let report = match Cli::parse().mode {
        Mode::Open { rate, common } => {
            open_loop(common.question()?, rate, Duration::from_secs(common.seconds)).await
        }
        Mode::Closed { clients, common } => {
            closed_loop(common.question()?, clients, Duration::from_secs(common.seconds)).await
        }
    };
    println!("{}", serde_json::to_string(&report)?);
    Ok(())
}
