//! Commands, selectors and exit codes that the README names.

use super::README;
use crate::helper::markdown::{blocks, code, prose, rows, section};
use crate::helper::{Said, claudeq};
use std::collections::BTreeSet;

const EXIT: &str = include_str!("../../../src/cli/exit.rs");

fn help(args: &[&str]) -> String {
    Said::of(&claudeq().args(args).arg("--help").output().expect("it starts")).unwrap()
}

/// The commands that the program has.
fn commands() -> BTreeSet<String> {
    let help = help(&[]);
    let list = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let list = list.take_while(|line| !line.is_empty());
    list.filter_map(|line| line.split_whitespace().next()).map(ToOwned::to_owned).collect()
}

#[test]
fn every_command_is_there() {
    let known = commands();
    assert!(known.len() > 15, "{known:?}");
    let blocks: Vec<String> = blocks(README).into_iter().map(|block| block.text).collect();
    let everything = [code(README), blocks].concat().join("\n");
    let mut named: BTreeSet<&str> = BTreeSet::new();
    for after in everything.split("claudeq ").skip(1) {
        let word = after.split(|c: char| !c.is_ascii_lowercase()).next().unwrap_or_default();
        named.extend(Some(word).filter(|word| !word.is_empty()));
    }
    assert!(named.len() > 5, "{named:?}");
    for word in named {
        assert!(known.contains(word), "`claudeq {word}` is no command");
    }
}

/// Whether a help text describes an option, in its short or its long form.
fn has_option(help: &str, option: &str) -> bool {
    help.lines().any(|line| line.split_whitespace().next() == Some(option))
}

#[test]
fn the_commands_that_take_selectors_do() {
    let text = prose(section(README, "## See how it goes"));
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (commands, selectors) =
        words.split_once(" take the same selectors (").expect("the README says so");
    let commands = commands.rsplit(": ").next().unwrap();
    let selectors = code(selectors.split(')').next().unwrap());
    let named = code(commands);
    assert!(named.len() > 5 && selectors.len() == 7, "{named:?} {selectors:?}");
    for command in &named {
        let help = help(&[command]);
        for selector in &selectors {
            assert!(has_option(&help, selector), "{command} {selector}\n{help}");
        }
    }
    let with_all: BTreeSet<String> = super::commands::commands()
        .into_iter()
        .filter(|command| command != "help" && has_option(&help(&[command]), "--all"))
        .collect();
    assert_eq!(named.into_iter().collect::<BTreeSet<_>>(), with_all, "no one is left out");
}

/// Numbers of the table are those of the program.
#[test]
fn exit_codes() {
    let table: Vec<u8> = rows(README, "exit code")
        .iter()
        .flat_map(|row| row[0].split(", ").map(|code| code.parse().unwrap()).collect::<Vec<_>>())
        .collect();
    let arms = EXIT.lines().filter_map(|line| {
        let (name, code) = line.trim().strip_prefix("Exit::")?.split_once(" => ")?;
        let code = code.strip_suffix(',')?.parse::<u8>().ok()?;
        name.chars().all(char::is_alphabetic).then_some(code)
    });
    let arms: Vec<u8> = arms.collect();
    assert!(arms.len() > 8, "the source is read wrongly: {arms:?}");
    assert_eq!(table, arms);
}
