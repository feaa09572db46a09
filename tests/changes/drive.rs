//! Fills etcd, changes it, and watches `HAProxy` take the changes up.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use etcd_client::{Client, Txn, TxnOp};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use crate::milliseconds;

/// Instances of a service.
const SHARE: usize = 17;
/// Operations of one transaction; etcd takes 128.
const BATCH: usize = 100;
/// Longest that anything may take.
const PATIENCE: Duration = Duration::from_mins(5);
/// Between two changes: the files of the last one are in place where that takes less.
const REST: Duration = Duration::from_millis(700);

/// Where everything is, and what to do.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// URL of etcd
    #[arg(long)]
    etcd: String,
    /// Stats socket of `HAProxy`
    #[arg(long)]
    socket: PathBuf,
    /// Write this many instances
    #[arg(long)]
    fill: Option<usize>,
    /// Make this many changes
    #[arg(long, default_value_t = 0)]
    changes: usize,
    /// Instances that are there
    #[arg(long, default_value_t = 0)]
    size: usize,
    /// Make them on the stats socket instead
    #[arg(long)]
    by_hand: bool,
}

pub(crate) async fn run(options: &Options) -> Result<()> {
    let mut etcd = Client::connect([&options.etcd], None).await?;
    if let Some(size) = options.fill {
        return fill(&mut etcd, size).await;
    }
    let all = Instant::now();
    while servers(options).await? < options.size {
        ensure!(all.elapsed() < PATIENCE, "HAProxy has {} servers", servers(options).await?);
        tokio::time::sleep(REST).await;
    }
    let mut times = Vec::new();
    for number in 0..options.changes {
        tokio::time::sleep(REST).await;
        let service = format!("s{}", number % options.size.div_ceil(SHARE));
        let begun = Instant::now();
        let id = if options.by_hand {
            let id = format!("hand-{number}");
            say(options, &format!("add server {service}/{id} 10.9.9.9:80;enable server {service}/{id}")).await?;
            id
        } else {
            let id = format!("change-{number}");
            let (key, value) = entry(&service, &id, 9);
            etcd.put(key, value, None).await?;
            id
        };
        appears(options, &service, &id, begun).await?;
        times.push(begun.elapsed());
    }
    tokio::time::sleep(REST).await;
    let [p50, p99, max] = ranks(times);
    println!("{p50:>8.2} {p99:>8.2} {max:>8.2}");
    Ok(())
}

async fn fill(etcd: &mut Client, size: usize) -> Result<()> {
    let numbers: Vec<usize> = (0..size).collect();
    for batch in numbers.chunks(BATCH) {
        let operations = batch.iter().map(|number| {
            let (key, value) = entry(&format!("s{}", number / SHARE), &format!("i{}", number % SHARE), *number);
            TxnOp::put(key, value, None)
        });
        etcd.txn(Txn::new().and_then(operations.collect::<Vec<_>>())).await?;
    }
    Ok(())
}

fn entry(service: &str, id: &str, number: usize) -> (String, String) {
    let address = format!("10.{}.{}.{}", number >> 16 & 255, number >> 8 & 255, number & 255);
    let value = serde_json::json!({
        "address": address, "port": 8000, "transport": "tcp", "readiness": "ready",
        "attributes": { "protocol": "http", "domain": format!("{service}.example.com") },
    });
    (format!("/waypost/services/{service}/{id}"), value.to_string())
}

/// Waits until a server takes connections.
async fn appears(options: &Options, service: &str, id: &str, begun: Instant) -> Result<()> {
    loop {
        let state = say(options, &format!("show servers state {service}")).await.unwrap_or_default();
        let there = state.lines().any(|line| {
            let fields: Vec<&str> = line.split(' ').collect();
            fields.get(3) == Some(&id) && fields.get(6) == Some(&"0")
        });
        if there {
            return Ok(());
        }
        ensure!(begun.elapsed() < PATIENCE, "{service}/{id} does not come: {state}");
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
}

async fn servers(options: &Options) -> Result<usize> {
    let state = say(options, "show servers state").await.unwrap_or_default();
    Ok(state.lines().filter(|line| line.split(' ').count() > 10 && !line.starts_with('#')).count())
}

async fn say(options: &Options, line: &str) -> Result<String> {
    let mut stream = UnixStream::connect(&options.socket).await?;
    stream.write_all(format!("{line}\n").as_bytes()).await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    Ok(text)
}

/// Median, 99 of 100 and the longest, in milliseconds.
fn ranks(mut times: Vec<Duration>) -> [f64; 3] {
    times.sort();
    let last = times.len().saturating_sub(1);
    [last / 2, last * 99 / 100, last].map(|rank| times.get(rank).copied().map_or(0.0, milliseconds))
}
