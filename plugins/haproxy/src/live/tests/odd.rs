//! Answers that HAProxy does not give, and values that containers should not.

use proptest::prelude::*;

use super::{CONNECTIONS, FOUND, HEADER, ROUTE, answer, http, live, same, shop};
use crate::live::{plan, queries};
use crate::tests::node;
use crate::tests::random::{catalog, settings};
use waypost_plugin_sdk::{Change, LivePlan};

#[test]
fn an_answer_that_is_cut_off_is_refused() {
    let changes = [same(shop(&[http("a", "10.0.0.1", 8080)]))];
    let rows = super::rows("shop", &[("a", "10.0.0.1", 0, 1, 6, "-", 8080)]);
    let said = [
        ("show servers state shop", rows.as_str()),
        ("show servers conn shop", CONNECTIONS),
        ("show map standby.map", "0x1 other waypost-standby-2\n"),
        (ROUTE, FOUND),
    ];
    let queries = queries(&live(), &changes).unwrap();
    assert_eq!(queries.len(), 1);
    let whole = answer(&queries[0], &said);
    let ask = |text: &str| plan(&live(), &node(), &changes, &[text.to_owned()]);
    assert_eq!(ask(&whole), Ok(LivePlan::Commands(Vec::new())));
    for length in 0..whole.len() {
        assert!(ask(&whole[..length]).is_err(), "{length}");
    }
    assert!(plan(&live(), &node(), &changes, &[]).is_err());
    for odd in ["Permission denied\n", "", "x\n", HEADER.strip_prefix("1\n").unwrap(), "6 shop 1\n"] {
        let said = [("show servers state shop", odd)];
        let found = ask(&answer(&queries[0], &said));
        assert!(odd.contains("be_name") || found.is_err(), "{odd}: {found:?}");
    }
}

/// Words of every command; a word is what stands between blanks.
fn is_known(command: &str) -> bool {
    let plain =
        |word: &&str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"_:.-/*~[]".contains(&b));
    let words: Vec<&str> = command.split(' ').collect();
    let known = matches!(
        words[..],
        ["show", "version" | "info"]
            | ["show", "map", "standby.map"]
            | ["show", "servers", "state" | "conn", _]
            | ["show", "stat", _, "3" | "7", "-1"]
            | ["get" | "del", "map", "routes.map", _]
            | ["add" | "set", "map", "routes.map", _, _]
            | ["add", "map", "standby.map", _, _]
            | ["del", "map", "standby.map", _]
            | ["add", "server", _, _, ..]
            | ["publish", "backend", _]
            | ["set", "dynamic-cookie-key", "backend", _, _]
            | ["enable", "server" | "health", _]
            | ["del", "server", _]
            | ["set", "server", _, "state", "maint" | "ready"]
            | ["set", "server", _, "weight", _]
            | ["set", "server", _, "addr", _, "port", _]
    );
    known && words.len() <= 24 && words.iter().all(plain)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_line_but_the_known_ones(settings in settings(), before in catalog(), after in catalog()) {
        let names = before.iter().chain(&after).map(|service| service.name.clone());
        for name in names {
            let find = |services: &[waypost_plugin_sdk::Service]| services.iter().find(|s| s.name == name).cloned();
            let changes = [Change { before: find(&before), after: find(&after) }];
            let Ok(queries) = queries(&settings, &changes) else { continue };
            let section = name.replace('/', "_");
            let here = [
                (format!("show servers state {section}"), HEADER),
                (format!("show servers conn {section}"), CONNECTIONS),
            ];
            let here: Vec<(&str, &str)> = here.iter().map(|(command, text)| (command.as_str(), *text)).collect();
            let answers: Vec<String> = queries.iter().map(|line| answer(line, &here)).collect();
            let reaction = plan(&settings, &node(), &changes, &answers).unwrap();
            let said = match reaction {
                LivePlan::Commands(lines) | LivePlan::CommandsAndReload(lines) => lines,
                LivePlan::Reload => Vec::new(),
            };
            for line in queries.iter().chain(&said) {
                prop_assert!(line.len() <= 4096);
                for command in line.split("; ") {
                    prop_assert!(is_known(command), "{command:?}");
                }
            }
        }
    }

    #[test]
    fn no_answer_makes_it_panic(text in "(1\n|# |be_name |srv_name |[a-z0-9.=\" -]{0,20}|\n){0,30}", whole in any::<String>()) {
        let changes = [same(shop(&[http("a", "10.0.0.1", 8080)]))];
        for answer in [text, whole] {
            drop(plan(&live(), &node(), &changes, &[answer]));
        }
    }
}
