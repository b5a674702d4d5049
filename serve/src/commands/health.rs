//! `dfml health`: is a server ready? For health checks in images that have no other client.

use std::{
    io::{Read, Write},
    net::{TcpStream, ToSocketAddrs},
    time::Duration,
};

use anyhow::{Context as _, bail};

use super::Done;

/// Longest time for each step.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Ask a server whether it is ready; exit code 1 if it is not.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  dfml health http://127.0.0.1:8080/readyz")]
pub(super) struct Args {
    /// Address of a probe; plain HTTP.
    #[arg(value_name = "URL", default_value = "http://127.0.0.1:8080/readyz")]
    url: url::Url,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Done> {
    let (Some(host), "http") = (args.url.host_str(), args.url.scheme()) else {
        bail!("{} is not an http address", args.url);
    };
    let port = args.url.port_or_known_default().unwrap_or(80);
    let address =
        (host.trim_matches(['[', ']']), port).to_socket_addrs()?.next().context("the host has no address")?;
    let mut server = TcpStream::connect_timeout(&address, TIMEOUT)
        .with_context(|| format!("{address} cannot be reached"))?;
    server.set_read_timeout(Some(TIMEOUT))?;
    server.set_write_timeout(Some(TIMEOUT))?;
    let path = args.url.path();
    write!(server, "GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    // A probe's answer is a line; more is no probe's.
    server.take(4096).read_to_string(&mut answer)?;
    let status = answer.split_whitespace().nth(1).unwrap_or("no status");
    if status != "200" {
        bail!("{} answered {status}", args.url);
    }
    Ok(Done::Complete)
}
