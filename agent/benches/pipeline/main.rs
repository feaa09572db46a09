//! Benchmarks of the line: shipped plugins as WebAssembly and, in the same run, the same plugins as native Rust.
//!
//! ```text
//! cargo bench -p waypost --bench pipeline              all, in about five minutes
//! cargo bench -p waypost --bench pipeline -- change    the groups whose name contains a word
//! ```
//!
//! `waypost` is the agent's stage with the embedded plugin; `native` is the same work with the plugin linked in
//! (module [`native`]); `native x2` gives it as many threads as the machine has processors, as the agent gives its
//! plugins. `processor time of` counts all threads together: what the work costs, also on a machine that others use.
//! Instances are spread as 172,000 over 10,000 services, so that one change touches a service of 17 in any fleet.
//! Every benchmark first checks that its result is whole.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, missing_docs)] // a benchmark that cannot be set up has to stop

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::measurement::Measurement;
use criterion::{
    BatchSize, Bencher, BenchmarkGroup, Criterion, SamplingMode, Throughput, criterion_group, criterion_main,
};
use serde_json::json;
use tokio::runtime::Runtime;
use waypost::catalog::Catalog;
use waypost::layout::{Decoder, Layout};
use waypost::model::{Ages, Entries, Services};
use waypost::output::files::Composed;
use waypost::output::write::Directory;
use waypost::output::{Composer, Output};
use waypost::plugin::{Host, Limits, Plugin, Source};
use waypost::status::Status;
use waypost_plugin_sdk::{sample, settings};

mod fleet;
mod native;
mod processor;

use fleet::{Fleet, container, instance, node};
use processor::ProcessorTime;

/// The agent's own threads and its plugins, as `waypost run` has them.
struct Bench {
    runtime: Runtime,
    status: Status,
    image: Plugin,
    json: Layout,
    haproxy: Plugin,
    threads: usize,
    _host: Host,
}

impl Bench {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let host = Host::new(Limits::default(), None).unwrap();
        let load = |name| runtime.block_on(host.load(Source::Shipped(name), &json!({}))).unwrap();
        let (image, layout, haproxy) = (load("image"), load("json"), load("haproxy"));
        let json = runtime.block_on(Layout::new(layout)).unwrap();
        let threads = std::thread::available_parallelism().unwrap().get();
        Bench { status: Status::new("web-1"), runtime, image, json, haproxy, threads, _host: host }
    }

    fn line(&self) -> Line {
        let output = Output::new("haproxy", Arc::new(self.haproxy.clone()), node(), self.status.clone());
        Line { decoder: self.decoder(), catalog: Catalog::default(), output, composer: Composer::default() }
    }

    fn decoder(&self) -> Decoder {
        Decoder::new(self.json.clone(), self.status.clone())
    }

    fn services(&self, fleet: &Fleet) -> Services {
        let mut line = self.line();
        self.runtime.block_on(line.decoder.update(&fleet.entries));
        line.catalog.update(0, line.decoder.directories(), line.decoder.ages());
        line.catalog.services().clone()
    }

    /// Nobody may say "done" when something was refused.
    fn without_problems(&self) {
        assert_eq!(self.status.report().problems, []);
    }
}

/// The stages of the right half of the line.
struct Line {
    decoder: Decoder,
    catalog: Catalog,
    output: Output,
    composer: Composer,
}

impl Line {
    async fn update(&mut self, entries: &Entries) {
        self.decoder.update(entries).await;
        self.catalog.update(0, self.decoder.directories(), self.decoder.ages());
        self.output.update(self.catalog.services(), self.catalog.ages(), 0).await;
    }

    fn compose(&mut self) -> Composed {
        self.composer.compose(self.output.base().unwrap(), self.output.accepted())
    }
}

fn count(composed: &Composed, file: &str, word: &str) -> usize {
    composed.files[file].lines().filter(|line| line.contains(word)).count()
}

fn check(composed: &Composed, fleet: &Fleet) {
    assert_eq!(count(composed, "haproxy.cfg", "    server "), fleet.instances);
    assert_eq!(count(composed, "haproxy.cfg", "backend service-"), fleet.services);
    assert_eq!(count(composed, "routes.map", ".example.com/ service-"), fleet.services);
}

fn group_one_container(c: &mut Criterion) {
    let bench = Bench::new();
    let container = container();
    let (settings, sdk_node, sdk_container) = (settings::parse("{}").unwrap(), sample::node(), sample::container());
    let native = waypost_plugin_image::group(&settings, &sdk_node, &sdk_container).unwrap();
    let role = bench.runtime.block_on(bench.image.group(&node(), &container)).unwrap();
    assert_eq!(role.provides[0].attributes.len(), native.provides[0].attributes.len());
    assert_eq!(role.provides[0].port, 49153);

    let mut group = c.benchmark_group("group one container");
    group.bench_function("native", |b| {
        b.iter(|| waypost_plugin_image::group(&settings, &sdk_node, black_box(&sdk_container)));
    });
    group.bench_function("waypost", |b| {
        let node = node();
        calls(b, &bench.runtime, || bench.image.group(&node, &container));
    });
}

fn encode_one_instance(c: &mut Criterion) {
    let bench = Bench::new();
    let one = Arc::new(instance(0, 1));
    let (sdk_node, sdk_one) = (native::node(&node()), native::instance(&one));
    let native = waypost_plugin_json::encode(&settings::Nothing {}, &sdk_node, &sdk_one).unwrap();
    let entries = bench.runtime.block_on(bench.json.plugin.encode(&node(), &one)).unwrap();
    assert_eq!((&entries[0].key, &entries[0].value), (&native[0].key, &native[0].value));

    let mut group = c.benchmark_group("encode one instance");
    group.bench_function("native", |b| {
        b.iter(|| waypost_plugin_json::encode(&settings::Nothing {}, &sdk_node, black_box(&sdk_one)));
    });
    group.bench_function("waypost", |b| {
        let node = node();
        calls(b, &bench.runtime, || bench.json.plugin.encode(&node, &one));
    });
}

/// One call after the other, from a task as the agent's loops are.
fn calls<F: Future>(b: &mut Bencher, runtime: &Runtime, mut call: impl FnMut() -> F) {
    b.iter_custom(|turns| {
        runtime.block_on(async {
            let start = Instant::now();
            for _ in 0..turns {
                black_box(call().await);
            }
            start.elapsed()
        })
    });
}

fn decode(c: &mut Criterion) {
    let bench = Bench::new();
    let fleet = Fleet::new(10_000, 588);
    let services = bench.services(&fleet);
    assert_eq!(services.values().map(|service| service.instances.len()).sum::<usize>(), 10_000);
    bench.without_problems();

    let mut group = c.benchmark_group("decode 10,000 instances");
    group.throughput(Throughput::Elements(10_000)).sample_size(20).sampling_mode(SamplingMode::Flat);
    for (name, threads) in floors(&bench) {
        group.bench_function(name, |b| {
            b.iter_batched_ref(
                || native::Line::new(threads),
                |line| line.decode(&fleet.entries),
                BatchSize::PerIteration,
            );
        });
    }
    group.bench_function("waypost", |b| {
        let decode = |decoder: &mut Decoder| bench.runtime.block_on(decoder.update(&fleet.entries));
        b.iter_batched_ref(|| bench.decoder(), decode, BatchSize::PerIteration);
    });
}

fn render(c: &mut Criterion) {
    let bench = Bench::new();
    for instances in [1_000, 10_000] {
        let fleet = Fleet::new(instances, instances / 10);
        let services = bench.services(&fleet);
        let mut line = bench.line();
        bench.runtime.block_on(line.output.update(&services, &Ages::new(), 0));
        check(&line.compose(), &fleet);
        bench.without_problems();

        let mut group = c.benchmark_group(format!("render {} instances", thousands(instances)));
        group.throughput(Throughput::Elements(instances as u64)).sample_size(20).sampling_mode(SamplingMode::Flat);
        for (name, threads) in floors(&bench) {
            group.bench_function(name, |b| {
                let render = |line: &mut native::Line| line.render(&services);
                b.iter_batched_ref(|| native::Line::new(threads), render, BatchSize::PerIteration);
            });
        }
        group.bench_function("waypost", |b| {
            let render = |line: &mut Line| bench.runtime.block_on(line.output.update(&services, &Ages::new(), 0));
            b.iter_batched_ref(|| bench.line(), render, BatchSize::PerIteration);
        });
    }
}

/// From what the registry shows to fragments, and on to whole files.
fn change<M: Measurement>(c: &mut Criterion<M>, of: &str) {
    let bench = Bench::new();
    for (instances, services) in [(1_000, 58), (10_000, 580), (172_000, 10_000)] {
        let mut fleet = Fleet::new(instances, services);
        let (mut line, mut native) = (bench.line(), native::Line::new(1));
        bench.runtime.block_on(line.update(&fleet.entries));
        native.update(&fleet.entries);
        let (composed, expected) = (line.compose(), native.compose());
        check(&composed, &fleet);
        assert!(composed.files == expected.files, "both write the same");
        bench.runtime.block_on(line.update(fleet.change(0)));
        native.update(&fleet.entries);
        let (changed, expected) = (line.compose(), native.compose());
        assert!(changed.files == expected.files && changed.files != composed.files, "both change the same");
        bench.without_problems();

        let mut group = c.benchmark_group(format!("{of}one change among {} instances", thousands(instances)));
        group.sample_size(if instances > 100_000 { 20 } else { 50 });
        let mut turn = 1;
        for (name, whole) in [("to fragments", false), ("to files", true)] {
            group.bench_function(format!("native, {name}"), |b| {
                b.iter(|| {
                    native.update(fleet.change(turn));
                    turn += 1;
                    whole.then(|| black_box(native.compose()))
                });
            });
            // The files above were composed of another turn's fragments.
            native.compose();
            group.bench_function(format!("waypost, {name}"), |b| {
                b.iter(|| {
                    bench.runtime.block_on(line.update(fleet.change(turn)));
                    turn += 1;
                    whole.then(|| {
                        black_box(line.compose());
                    })
                });
            });
            line.compose();
        }
    }
}

/// A catalog that is there at once, as after a start: decoded, rendered, composed and written.
fn everything<M: Measurement>(c: &mut Criterion<M>, of: &str) {
    let bench = Bench::new();
    let fleet = Fleet::new(172_000, 10_000);
    let directory = tempfile::tempdir().unwrap();
    let write = |composed: &Composed| {
        let root = tempfile::tempdir_in(&directory).unwrap();
        let staged = Directory::open(root.path()).unwrap().stage(&composed.files).unwrap().unwrap();
        assert_eq!(staged.commit().unwrap().len(), 2);
        root
    };
    let mut line = bench.line();
    bench.runtime.block_on(line.update(&fleet.entries));
    let composed = line.compose();
    check(&composed, &fleet);
    bench.without_problems();
    drop(line);

    let mut group = c.benchmark_group(format!("{of}all of 172,000 instances from nothing"));
    group.throughput(Throughput::Elements(172_000)).sample_size(10).sampling_mode(SamplingMode::Flat);
    for (name, threads) in floors(&bench) {
        group.bench_function(name, |b| {
            let all = |line: &mut native::Line| {
                line.update(&fleet.entries);
                write(&line.compose())
            };
            b.iter_batched_ref(|| native::Line::new(threads), all, BatchSize::PerIteration);
        });
    }
    group.bench_function("waypost", |b| {
        let all = |line: &mut Line| {
            bench.runtime.block_on(line.update(&fleet.entries));
            write(&line.compose())
        };
        b.iter_batched_ref(|| bench.line(), all, BatchSize::PerIteration);
    });
    let compose_and_write = |line: &mut native::Line| write(&line.compose());
    let rendered = || {
        let mut line = native::Line::new(bench.threads);
        line.update(&fleet.entries);
        line
    };
    group.bench_function("of that, compose and write", |b| {
        b.iter_batched_ref(rendered, compose_and_write, BatchSize::PerIteration);
    });
    if of.is_empty() {
        let root = write(&composed);
        beside_haproxy(&mut group, root.path());
    }
}

/// What the proxy itself takes to read the same files.
fn beside_haproxy<M: Measurement>(group: &mut BenchmarkGroup<'_, M>, files: &std::path::Path) {
    match haproxy_accepts(files) {
        Some(true) => {
            _ = group.bench_function("for comparison, haproxy -c", |b| b.iter(|| haproxy_accepts(files)));
        }
        Some(false) => panic!("HAProxy refuses the files"),
        None => println!("haproxy -c is left out: there is no HAProxy here"),
    }
}

/// None without a HAProxy.
fn haproxy_accepts(directory: &std::path::Path) -> Option<bool> {
    let mut command = std::process::Command::new("haproxy");
    let output = command.args(["-c", "-f"]).arg(directory.join("haproxy.cfg")).output().ok()?;
    Some(output.status.success())
}

/// The native floor on one thread, and on as many as the agent's plugins have.
fn floors(bench: &Bench) -> Vec<(String, usize)> {
    let mut floors = vec![("native".to_owned(), 1)];
    if bench.threads > 1 {
        floors.push((format!("native x{}", bench.threads), bench.threads));
    }
    floors
}

fn thousands(number: usize) -> String {
    format!("{},{:03}", number / 1000, number % 1000)
}

fn configured() -> Criterion {
    Criterion::default().warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(4))
}

fn configured_for_processor_time() -> Criterion<ProcessorTime> {
    configured().with_measurement(ProcessorTime)
}

fn change_in_time(c: &mut Criterion) {
    change(c, "");
}

fn change_in_processor_time(c: &mut Criterion<ProcessorTime>) {
    change(c, "processor time of ");
}

fn everything_in_time(c: &mut Criterion) {
    everything(c, "");
}

fn everything_in_processor_time(c: &mut Criterion<ProcessorTime>) {
    everything(c, "processor time of ");
}

criterion_group! {
    name = time;
    config = configured();
    targets = group_one_container, encode_one_instance, decode, render, change_in_time, everything_in_time
}
criterion_group! {
    name = processor_time;
    config = configured_for_processor_time();
    targets = change_in_processor_time, everything_in_processor_time
}
criterion_main!(time, processor_time);
