//! Damage.

use crate::run;

#[test]
fn no_damage_is_silent() {
    let ended = run(
        env!("CARGO_BIN_EXE_damage"),
        &["--cases", "200", "--seed", "1"],
    );
    assert_eq!(ended.code, Some(0), "{}", ended.said);
    assert_eq!(ended.figure("cases"), 200);
    assert_eq!(ended.figure("silent"), 0, "{}", ended.said);
    for word in ["recovered", "refused"] {
        assert!(ended.figure(word) > 10, "{}", ended.said);
    }
    let salvaged = ended.said.lines().rev().nth(1);
    let salvaged = salvaged.and_then(|line| line.strip_prefix("salvaged "));
    let salvaged = salvaged.and_then(|line| line.split(' ').next()?.parse().ok());
    assert!(
        salvaged.is_some_and(|salvaged: u64| salvaged > 10),
        "{}",
        ended.said
    );
}
