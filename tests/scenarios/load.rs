//! No request is lost while proxies are reloaded and what they route to changes. `under-load` makes long runs of the same.

use harness::underload::{Course, Row, containers, haproxy, nginx, redeploys, table};

/// Short enough for every run of the tests.
const SHORT: Course = Course {
    reloads: 8,
    changes: 150,
    pace: 50,
    restarts: 3,
    nginx_reloads: 20,
    containers: 2,
    redeploys: 10,
    services: 6,
    instances: 3,
    rate: 200,
    keep_alive: 4,
    fresh: 4,
    live: false,
};

fn nothing_is_lost(rows: &[Row]) {
    for row in rows.iter().filter(|row| !row.control) {
        assert_eq!(row.tally.lost(), 0, "{}: {:#?}\n{}", row.what, row.tally.losses, table(rows));
        assert!(row.tally.answered > 100, "{}", table(rows));
    }
}

#[test]
fn reloads_and_changes_lose_nothing_and_restarts_do() {
    let rows = haproxy(&SHORT);
    nothing_is_lost(&rows);
    let control = rows.iter().find(|row| row.control).unwrap();
    assert!(control.tally.lost() > 0, "the counter cannot see losses: {}", table(&rows));
    let forced = rows[0].reloads.unwrap();
    assert!(forced >= SHORT.reloads as u64, "{forced} reloads");
}

#[test]
fn live_changes_lose_nothing_and_reload_nothing() {
    let rows = haproxy(&Course { live: true, restarts: 0, ..SHORT });
    nothing_is_lost(&rows);
    // A tidy-up may fall into it.
    assert!(rows[1].reloads.unwrap() <= 1, "{}", table(&rows));
}

#[test]
fn containers_are_replaced_without_a_loss() {
    nothing_is_lost(&[containers(&SHORT)]);
}

#[test]
fn the_only_instance_is_redeployed_without_a_loss_or_a_reload() {
    let rows = redeploys(&SHORT);
    nothing_is_lost(&rows);
    assert!(rows[0].tally.away > 0, "nobody asked while there was none: {}", table(&rows));
    assert_eq!(rows[0].reloads, Some(0), "{}", table(&rows));
}

#[test]
fn nginx_reloads_lose_nothing() {
    let row = nginx(&SHORT);
    let forced = row.reloads.unwrap();
    nothing_is_lost(&[row]);
    assert!(forced >= SHORT.nginx_reloads as u64, "{forced} reloads");
}
