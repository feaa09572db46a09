use super::*;

fn name(text: &str) -> Arc<str> {
    text.into()
}

fn ask(claims: &mut Claims, service: &str, asked: &[&str], age: u64) {
    claims.ages.insert(name(service), age);
    claims.set(&name(service), asked.iter().map(|claim| name(claim)).collect(), false, 1);
}

/// Its last instance leaves.
fn leave(claims: &mut Claims, service: &str, asked: &[&str]) {
    claims.ages.remove(service);
    claims.set(&name(service), asked.iter().map(|claim| name(claim)).collect(), true, 1);
}

fn denied(claims: &Claims, service: &str) -> Vec<String> {
    claims.denied(service).iter().map(ToString::to_string).collect()
}

fn changed(claims: &mut Claims) -> Vec<String> {
    claims.settle(2).iter().map(ToString::to_string).collect()
}

#[test]
fn who_has_it_keeps_it_and_the_newcomer_loses_only_that() {
    let mut claims = Claims::default();
    ask(&mut claims, "shop", &["domain shop.example"], 7);
    assert_eq!(changed(&mut claims), ["shop"]);
    ask(&mut claims, "dup", &["domain dup.example", "domain shop.example"], 3);
    assert_eq!(changed(&mut claims), ["dup"]);
    assert_eq!(denied(&claims, "dup"), ["domain shop.example"]);
    assert_eq!(denied(&claims, "shop"), [""; 0]);

    // A rollout changes nothing; what it no longer asks for is given to who waits.
    ask(&mut claims, "shop", &["domain shop.example", "port 1"], 99);
    changed(&mut claims);
    assert_eq!(denied(&claims, "shop"), [""; 0]);
    ask(&mut claims, "shop", &["port 1"], 99);
    assert_eq!(changed(&mut claims), ["dup"]);
    assert_eq!(denied(&claims, "dup"), [""; 0]);
}

#[test]
fn at_the_start_the_older_entry_has_it_and_then_the_first_by_name() {
    let mut claims = Claims::default();
    ask(&mut claims, "a", &["x", "y"], 5);
    ask(&mut claims, "b", &["x", "y"], 4);
    ask(&mut claims, "c", &["x"], 4);
    changed(&mut claims);
    assert_eq!((denied(&claims, "a"), denied(&claims, "b")), (vec!["x".to_owned(), "y".to_owned()], vec![]));
    ask(&mut claims, "b", &[], 4);
    changed(&mut claims);
    assert_eq!((denied(&claims, "a"), denied(&claims, "c")), (vec!["x".to_owned()], vec![]));
}

#[test]
fn what_has_left_comes_after_all_that_are_there() {
    let mut claims = Claims::default();
    ask(&mut claims, "shop", &["x"], 1);
    changed(&mut claims);
    ask(&mut claims, "a", &["x"], 2);
    ask(&mut claims, "b", &["x"], 3);
    leave(&mut claims, "a", &["x"]);
    ask(&mut claims, "shop", &[], 1);
    changed(&mut claims);
    assert_eq!((denied(&claims, "a"), denied(&claims, "b")), (vec!["x".to_owned()], vec![]));
}

#[test]
fn the_age_counts_that_a_service_has_when_a_claim_is_given_away() {
    let mut claims = Claims::default();
    ask(&mut claims, "shop", &["x"], 1);
    changed(&mut claims);
    ask(&mut claims, "a", &["x"], 2);
    ask(&mut claims, "b", &["x"], 3);
    // All entries of one were written anew, with what they said before.
    claims.ages.insert(name("a"), 4);
    ask(&mut claims, "shop", &[], 1);
    changed(&mut claims);
    assert_eq!((denied(&claims, "a"), denied(&claims, "b")), (vec!["x".to_owned()], vec![]));
}

#[test]
fn what_a_departed_service_had_goes_to_a_new_claim_but_not_to_who_waited() {
    let mut claims = Claims::default();
    ask(&mut claims, "shop", &["x"], 1);
    changed(&mut claims);
    ask(&mut claims, "dup", &["x"], 2);
    changed(&mut claims);
    leave(&mut claims, "shop", &["x"]);
    assert_eq!(changed(&mut claims), [""; 0]);
    assert_eq!(denied(&claims, "dup"), ["x"]);
    // It comes back and has it still.
    ask(&mut claims, "shop", &["x"], 8);
    changed(&mut claims);
    assert_eq!(denied(&claims, "shop"), [""; 0]);
    // It leaves again, and another one takes its place.
    leave(&mut claims, "shop", &["x"]);
    ask(&mut claims, "next", &["x"], 9);
    assert_eq!(changed(&mut claims), ["next", "shop"]);
    assert_eq!((denied(&claims, "next"), denied(&claims, "shop")), (vec![], vec!["x".to_owned()]));
    ask(&mut claims, "shop", &["x"], 10);
    changed(&mut claims);
    assert_eq!(denied(&claims, "shop"), ["x"]);
}

#[test]
fn what_an_earlier_agent_knew_decides() {
    let mut claims = Claims::default();
    let held = Held { holder: name("z"), since: 5, waiting: [name("y")].into() };
    claims.restore(name("x"), held);
    claims.restore(name("gone"), Held { holder: name("z"), since: 5, waiting: [name("a")].into() });
    for service in ["a", "y", "z"] {
        ask(&mut claims, service, if service == "a" { &["gone", "x"] } else { &["x"] }, 1);
    }
    claims.forget_unasked();
    changed(&mut claims);
    assert_eq!(denied(&claims, "z"), [""; 0]);
    assert_eq!(denied(&claims, "y"), ["x"]);
    assert_eq!(denied(&claims, "a"), ["x"]);
    assert_eq!(claims.held("x").unwrap().since, 5);
    assert_eq!(&*claims.held("gone").unwrap().holder, "a");
}
