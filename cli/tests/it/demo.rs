//! `holdfast demo` holds what it promises.

use crate::holdfast::Holdfast;

#[test]
fn every_chapter_holds() {
    let demo = Holdfast::new().run(&["demo"]);
    assert_eq!(demo.code(), Some(0), "{demo:?}");
    let told = demo.stdout();
    for number in 1..=6 {
        let title = format!("{number} ");
        assert!(
            told.lines().any(|line| line.starts_with(&title)),
            "{number}: {told}"
        );
        let row = |line: &&str| line.starts_with(&format!("  {title}")) && line.contains('✓');
        assert_eq!(told.lines().filter(row).count(), 1, "{number}: {told}");
    }
    assert!(told.contains("Everything held"), "{told}");
    assert!(
        !told.contains('\u{1b}'),
        "no colours where there is no terminal"
    );
}
