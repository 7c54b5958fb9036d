use std::collections::HashMap;

use super::*;

const LEASE: Duration = Duration::from_secs(15);
const ACCOUNTS: usize = 100_000;

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn accounts() -> impl Iterator<Item = Name> {
    (0..ACCOUNTS).map(|number| name(&format!("account-{number}")))
}

fn at(seconds: u64) -> Time {
    Time::at(Duration::from_secs(seconds))
}

fn lease(capacity: u32) -> Lease {
    Lease {
        boot: 1,
        addresses: vec![([127, 0, 0, 1], 7000).into()],
        capacity,
        sessions: 0,
        draining: false,
    }
}

fn draining() -> Lease {
    Lease {
        draining: true,
        ..lease(1)
    }
}

/// The relays `r0`, `r1` … with these capacities, all of them live from the origin on.
fn fleet(capacities: &[u32]) -> Fleet {
    let mut fleet = Fleet::new(LEASE, []);
    for (number, capacity) in capacities.iter().enumerate() {
        let relay = name(&format!("r{number}"));
        fleet.renew(&relay, &lease(*capacity), Time::ZERO).unwrap();
    }
    fleet
}

fn names(relays: Vec<RelayAddress>) -> Vec<String> {
    let names = relays.iter().map(|relay| relay.name.to_string());
    names.collect()
}

/// How many of [`accounts`] each relay would get.
fn shares(fleet: &Fleet) -> HashMap<Name, usize> {
    let mut shares = HashMap::new();
    for account in accounts() {
        let relay = fleet.place(&account, Time::ZERO).unwrap();
        *shares.entry(relay).or_default() += 1;
    }
    shares
}

/// The shares are in proportion to the capacities, within 5 %.
fn assert_fair(capacities: &[u32]) {
    let shares = shares(&fleet(capacities));
    let total: u32 = capacities.iter().sum();
    for (number, capacity) in capacities.iter().enumerate() {
        let share = shares[&name(&format!("r{number}"))] as f64;
        let fair = ACCOUNTS as f64 * f64::from(*capacity) / f64::from(total);
        assert!((share / fair - 1.0).abs() < 0.05, "{share}, not {fair}");
    }
}

#[test]
fn accounts_spread_evenly() {
    assert_fair(&[1, 1]);
    assert_fair(&[100; 8]);
}

#[test]
fn accounts_spread_in_proportion_to_capacity() {
    assert_fair(&[1, 2, 3, 4]);
    assert_fair(&[1000, 5000]);
}

#[test]
fn a_new_relay_takes_its_share_and_moves_nothing_between_the_others() {
    let (before, after) = (fleet(&[1; 4]), fleet(&[1; 5]));
    let newcomer = name("r4");
    let mut share = 0;
    for account in accounts() {
        let old = before.place(&account, Time::ZERO);
        let new = after.place(&account, Time::ZERO);
        if new.as_ref() == Some(&newcomer) {
            share += 1;
        } else {
            assert_eq!(new, old);
        }
    }
    let fair = ACCOUNTS as f64 / 5.0;
    assert!((f64::from(share) / fair - 1.0).abs() < 0.05, "{share}");
}

#[test]
fn a_new_relay_moves_nobody_who_is_pinned() {
    let (before, after) = (fleet(&[1; 4]), fleet(&[1, 1, 1, 1, 9]));
    for account in accounts().take(1000) {
        let home = before.place(&account, Time::ZERO);
        let order = after.order(&account, home.as_ref(), Time::ZERO);
        assert_eq!(Some(&order[0].name), home.as_ref());
        assert_eq!(order.len(), 5);
    }
}

#[test]
fn an_order_is_the_same_wherever_it_is_worked_out() {
    let fleet = fleet(&[1, 1, 2, 4, 8]);
    let order = |account| names(fleet.order(&name(account), None, Time::ZERO));
    assert_eq!(order("alice"), ["r1", "r4", "r3", "r2", "r0"]);
    assert_eq!(order("bob"), ["r0", "r4", "r2", "r3", "r1"]);
}

#[test]
fn a_lease_ends_at_its_moment() {
    let mut fleet = fleet(&[1]);
    let (alice, last) = (name("alice"), at(15) - Duration::from_nanos(1));
    assert_eq!(fleet.place(&alice, last), Some(name("r0")));
    assert_eq!(fleet.place(&alice, at(15)), None);
    fleet.renew(&name("r0"), &lease(1), last).unwrap();
    assert_eq!(fleet.place(&alice, at(15)), Some(name("r0")));
    assert_eq!(fleet.place(&alice, last + LEASE), None);
}

#[test]
fn who_has_run_out_is_told_once() {
    let mut fleet = fleet(&[1, 1]);
    fleet.renew(&name("r1"), &lease(1), at(5)).unwrap();
    assert_eq!(fleet.expire(at(14)), []);
    assert_eq!(fleet.expire(at(15)), [name("r0")]);
    assert_eq!(fleet.expire(at(16)), []);
    assert_eq!(fleet.expire(at(20)), [name("r1")]);
}

/// At the moment that is returned `r0` and `r1` are dead, `r2` and `r3` drain, `r4` and `r5` live.
fn mixed() -> (Fleet, Time) {
    let mut fleet = fleet(&[1; 6]);
    for (relay, lease) in [
        ("r2", draining()),
        ("r3", draining()),
        ("r4", lease(1)),
        ("r5", lease(1)),
    ] {
        fleet.renew(&name(relay), &lease, at(10)).unwrap();
    }
    (fleet, at(20))
}

#[test]
fn the_live_stand_before_the_draining_and_these_before_the_dead() {
    let (fleet, now) = mixed();
    for account in accounts().take(100) {
        let mut order = names(fleet.order(&account, None, now));
        for pair in order.chunks_mut(2) {
            pair.sort();
        }
        assert_eq!(order, ["r4", "r5", "r2", "r3", "r0", "r1"]);
    }
}

#[test]
fn the_home_stands_first_among_its_like() {
    let (fleet, now) = mixed();
    for (home, place) in [
        ("r0", 4),
        ("r1", 4),
        ("r2", 2),
        ("r3", 2),
        ("r4", 0),
        ("r5", 0),
    ] {
        for account in accounts().take(100) {
            let order = names(fleet.order(&account, Some(&name(home)), now));
            assert_eq!(order[place], home);
        }
    }
}

#[test]
fn only_a_live_relay_becomes_a_home() {
    let (fleet, now) = mixed();
    let live = [name("r4"), name("r5")];
    for account in accounts().take(100) {
        assert!(live.contains(&fleet.place(&account, now).unwrap()));
    }
    let mut fleet = fleet_of_one(draining());
    assert_eq!(fleet.place(&name("alice"), Time::ZERO), None);
    fleet.renew(&name("r0"), &lease(1), Time::ZERO).unwrap();
    assert_eq!(fleet.place(&name("alice"), Time::ZERO), Some(name("r0")));
}

fn fleet_of_one(lease: Lease) -> Fleet {
    let mut fleet = Fleet::new(LEASE, []);
    fleet.renew(&name("r0"), &lease, Time::ZERO).unwrap();
    fleet
}

#[test]
fn a_home_is_named_however_many_stand_before_it() {
    let mut fleet = fleet(&[1; 40]);
    for number in 1..40 {
        let relay = name(&format!("r{number}"));
        fleet.renew(&relay, &lease(1), at(10)).unwrap();
    }
    let (alice, dead) = (name("alice"), name("r0"));
    let without = names(fleet.order(&alice, None, at(20)));
    let with = names(fleet.order(&alice, Some(&dead), at(20)));
    assert_eq!(without.len(), MAX_RELAYS);
    assert_eq!(with[..MAX_RELAYS - 1], without[..MAX_RELAYS - 1]);
    assert_eq!(with[MAX_RELAYS - 1..], ["r0"]);
}

#[test]
fn a_relay_is_told_the_others_that_live() {
    let (fleet, now) = mixed();
    let mut others = names(fleet.others(&name("r5"), now));
    others[1..].sort();
    assert_eq!(others, ["r4", "r2", "r3"]);
    let mut others = names(fleet.others(&name("r0"), now));
    others[..2].sort();
    others[2..].sort();
    assert_eq!(others, ["r4", "r5", "r2", "r3"]);
}

#[test]
fn the_newest_run_of_a_relay_holds_its_lease() {
    let boot = |boot| Lease { boot, ..lease(1) };
    let mut fleet = fleet_of_one(boot(7));
    let relay = name("r0");
    let superseded = Err(Superseded { newer: 8 });
    assert!(fleet.renew(&relay, &boot(8), at(1)).unwrap().is_news);
    assert_eq!(fleet.renew(&relay, &boot(7), at(2)), superseded);
    let late = Lease {
        draining: true,
        ..boot(7)
    };
    assert_eq!(fleet.renew(&relay, &late, at(15)), superseded);
    assert_eq!(fleet.place(&name("alice"), at(15)), Some(relay.clone()));
    // What was refused has not made the lease live longer.
    assert_eq!(fleet.place(&name("alice"), at(16)), None);
    assert!(fleet.renew(&relay, &boot(7), at(16)).is_ok());
}

#[test]
fn only_what_is_new_is_news() {
    let mut fleet = Fleet::new(LEASE, [(name("r0"), Known::from(&lease(1)))]);
    let mut renew = |lease: Lease, now| fleet.renew(&name("r0"), &lease, now).unwrap();
    let news = Renewal {
        is_news: true,
        learned: None,
    };
    let none = Renewal {
        is_news: false,
        learned: None,
    };
    assert_eq!(renew(lease(1), at(0)), news, "the first one");
    assert_eq!(renew(lease(1), at(5)), none);
    let busy = Lease {
        sessions: 9,
        ..lease(1)
    };
    assert_eq!(renew(busy, at(10)), none);
    assert_eq!(renew(lease(1), at(25)), news, "back again");
    assert_eq!(renew(draining(), at(26)), news);
    let learned = Some(Known::from(&lease(2)));
    let larger = Renewal {
        is_news: true,
        learned,
    };
    assert_eq!(renew(lease(2), at(27)), larger);
}

#[test]
fn a_report_says_how_each_relay_stands() {
    let known = Known::from(&lease(4));
    let mut fleet = Fleet::new(LEASE, [(name("r1"), known.clone())]);
    let busy = Lease {
        sessions: 9,
        ..lease(2)
    };
    fleet.renew(&name("r0"), &busy, Time::ZERO).unwrap();
    let of = |number: &str, standing, capacity, sessions| RelayReport {
        relay: RelayAddress {
            name: name(number),
            addresses: known.addresses.clone(),
        },
        standing,
        capacity,
        sessions,
    };
    let unheard = of("r1", Standing::Dead, 4, 0);
    let early = [of("r0", Standing::Live, 2, 9), unheard.clone()];
    assert_eq!(fleet.report(at(14)), early);
    assert_eq!(
        fleet.report(at(15)),
        [of("r0", Standing::Dead, 2, 0), unheard]
    );
}
