//! Many random changes over a socket that loses what passes: in the end the running proxy is what its file says.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;
use waypost_test_support::free_port;

use super::relay::{Numbers, relay};
use super::running::{Fresh, state};
use super::test_proxy::{Offer, Offers, TestProxy, http};

/// Changes of the short form; `WAYPOST_CHANGES=10000` makes it the long one.
const CHANGES: u64 = 400;
/// Changes between two comparisons.
const STRETCH: u64 = 100;
/// Of a thousand lines, how many are cut off; as many commands are refused.
const LOSSES: u64 = 60;

/// The domain that several services ask for.
const SHARED: &str = "shared.test";

fn change(offers: &mut Offers, numbers: &mut Numbers, ports: [u16; 2]) {
    let service = numbers.below(12);
    let name = format!("s{service}");
    let key = (name.clone(), format!("i{}", numbers.below(6)));
    let port = u16::try_from(20_000 + numbers.below(2000)).unwrap();
    // Two services are tcp, on ports of their own, which the second one leaves for that of the first now and then.
    let leads = match ports.get(usize::try_from(service).unwrap()) {
        Some(_) if service == 1 && offers.keys().all(|(other, _)| *other != name) => {
            Err(ports[usize::try_from(numbers.below(2)).unwrap()])
        }
        Some(_) if service == 1 => offers.iter().find(|((other, _), _)| *other == name).unwrap().1.leads.clone(),
        Some(port) => Err(*port),
        None => Ok(format!("s{service}.test")),
    };
    match (numbers.below(10), offers.get_mut(&key)) {
        (0 | 1, Some(_)) => _ = offers.remove(&key),
        (2, Some(offer)) => offer.draining = !offer.draining,
        (3, Some(offer)) => offer.weight = Some(u16::try_from(numbers.below(200)).unwrap()),
        (4, Some(offer)) => offer.weight = None,
        (5, Some(offer)) if service >= 2 => offer.leads = Ok(format!("s{service}.test,also-s{service}.test")),
        (6, Some(offer)) if service >= 8 => offer.leads = Ok(format!("s{service}.test,{SHARED}")),
        // All of a service at once, which for tcp takes a reload, and what else leaves then leaves while it goes on.
        (7, Some(_)) => offers.retain(|(other, _), _| *other != name),
        (_, Some(offer)) => offer.port = port,
        (_, None) => _ = offers.insert(key, Offer { leads, ..http(port, "") }),
    }
}

/// Whether everything agrees but for services that go without what another one has.
fn has_settled(site: &TestProxy) -> bool {
    site.output().differences.iter().all(|difference| difference.contains("not served as wanted"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_many_changes_and_losses_the_proxy_is_what_its_file_says() {
    let changes = std::env::var("WAYPOST_CHANGES").map_or(CHANGES, |text| text.parse().unwrap());
    let mut site = TestProxy::start("relay.sock", Duration::from_secs(1), json!({})).await;
    let counts = relay(site.path("relay.sock"), site.path("haproxy.sock"), LOSSES);
    let (mut offers, mut numbers) = (Offers::new(), Numbers::new(42));
    offers.insert(("zero".to_owned(), "0".to_owned()), http(20_000, "zero.test"));
    let ports = [free_port(), free_port()];
    let (mut wanted, mut live, mut reloads) = (0, 0, 0);
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
        let mut told = None;
        let same = || {
            let Some(running) = state(&site.path("haproxy.sock")) else { return false };
            if site.instances() != offers.len() || !has_settled(&site) {
                return false;
            }
            if fresh.as_ref().is_none_or(|fresh| !fresh.is_of(&site)) {
                fresh = Some(Fresh::start(&site));
            }
            let state = fresh.as_ref().and_then(Fresh::state);
            let is_same = state.as_ref() == Some(&running);
            if !is_same && state != told {
                println!("from its files: {state:?}\nrunning: {running:?}");
                told = state;
            }
            is_same
        };
        site.until("the running proxy is what its file says", same).await;
        (live, reloads) = (live + site.output().live.unwrap_or_default(), reloads + site.output().reloads);
        counts.losses.store(LOSSES, Ordering::Relaxed);
        // Another agent takes over, and what no service wrote is something else.
        site = site.restarted(json!({ "maxconn": 1000 + wanted })).await;
        site.until("it goes on", || site.instances() == offers.len() && site.output().reloads > 0).await;
        assert!(site.file().contains(&format!("maxconn {}\n", 1000 + wanted)), "{}", site.file());
    }
    println!(
        "{changes} changes: {live} services brought live, {reloads} reloads, {} lines passed, {} cut off, {} refused",
        counts.passed.load(Ordering::Relaxed),
        counts.cut.load(Ordering::Relaxed),
        counts.refused.load(Ordering::Relaxed)
    );
    site.end().await;
}
