//! Many random changes over a socket that loses what passes: in the end the running proxy is what its file says.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;

use super::relay::{Numbers, relay};
use super::running::{Fresh, state};
use super::site::{Offer, Offers, Site, free_port, http};

/// Changes of the short form; `WAYPOST_CHANGES=10000` makes it the long one.
const CHANGES: u64 = 400;
/// Changes between two comparisons.
const STRETCH: u64 = 100;
/// Of a thousand lines, how many are cut off; as many commands are refused.
const LOSSES: u64 = 60;

fn change(offers: &mut Offers, numbers: &mut Numbers, ports: [u16; 2]) {
    let service = numbers.below(12);
    let key = (format!("s{service}"), format!("i{}", numbers.below(6)));
    let port = u16::try_from(20_000 + numbers.below(2000)).unwrap();
    // Two services are tcp, on ports of their own that nobody else asks for.
    let leads = match ports.get(usize::try_from(service).unwrap()) {
        Some(port) => Err(*port),
        None => Ok(format!("s{service}.test")),
    };
    match (numbers.below(8), offers.get_mut(&key)) {
        (0 | 1, Some(_)) => _ = offers.remove(&key),
        (2, Some(offer)) => offer.draining = !offer.draining,
        (3, Some(offer)) => offer.weight = Some(u16::try_from(numbers.below(200)).unwrap()),
        (4, Some(offer)) => offer.weight = None,
        (5, Some(offer)) if service >= 2 => offer.leads = Ok(format!("s{service}.test,also-s{service}.test")),
        (_, Some(offer)) => offer.port = port,
        (_, None) => _ = offers.insert(key, Offer { leads, ..http(port, "") }),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_many_changes_and_losses_the_proxy_is_what_its_file_says() {
    let changes = std::env::var("WAYPOST_CHANGES").map_or(CHANGES, |text| text.parse().unwrap());
    let site = Site::start("relay.sock", Duration::from_secs(1), json!({})).await;
    let counts = relay(site.path("relay.sock"), site.path("haproxy.sock"), LOSSES);
    let (mut offers, mut numbers) = (Offers::new(), Numbers::new(42));
    offers.insert(("zero".to_owned(), "0".to_owned()), http(20_000, "zero.test"));
    let ports = [free_port(), free_port()];
    let mut wanted = 0;
    while wanted < changes {
        for _ in 0..STRETCH.min(changes - wanted) {
            change(&mut offers, &mut numbers, ports);
            site.offer(&offers);
            wanted += 1;
            // Some changes are one by one, others come while those before them are under way.
            if numbers.below(3) > 0 {
                site.until("the catalog has it", || site.instances() == offers.len()).await;
            }
        }
        // A stretch without losses ends what is under way; then both must be the same.
        counts.losses.store(0, Ordering::Relaxed);
        let mut fresh: Option<Fresh> = None;
        let same = || {
            let Some(running) = state(&site.path("haproxy.sock")) else { return false };
            if running.0.values().map(BTreeMap::len).sum::<usize>() != offers.len() {
                return false;
            }
            if fresh.as_ref().is_none_or(|fresh| !fresh.is_of(&site)) {
                fresh = Some(Fresh::start(&site));
            }
            let state = fresh.as_ref().and_then(Fresh::state);
            state.is_some_and(|state| state == running)
        };
        site.until("the running proxy is what its file says", same).await;
        counts.losses.store(LOSSES, Ordering::Relaxed);
    }
    let output = site.output();
    println!(
        "{changes} changes: {} services brought live, {} reloads, {} lines passed, {} cut off, {} refused",
        output.live.unwrap_or_default(),
        output.reloads,
        counts.passed.load(Ordering::Relaxed),
        counts.cut.load(Ordering::Relaxed),
        counts.refused.load(Ordering::Relaxed)
    );
    site.end().await;
}
