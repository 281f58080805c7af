//! The filter beside bogofilter from Debian: both learn from one half of the same mail, and are asked about the other.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::corpus::Corpus;
use super::*;

/// Files of one half: junk, and other mail.
struct Half {
    junk: Vec<PathBuf>,
    ham: Vec<PathBuf>,
}

fn write(corpus: &mut Corpus, folder: &Path, name: &str, each: usize) -> Half {
    let mut files = |junk: bool| -> Vec<PathBuf> {
        (0..each)
            .map(|n| {
                let file = folder.join(format!("{name}.{}.{n}", if junk { "junk" } else { "ham" }));
                std::fs::write(&file, corpus.message(junk)).unwrap();
                file
            })
            .collect()
    };
    Half {
        junk: files(true),
        ham: files(false),
    }
}

fn bogofilter(db: &Path, options: &[&str], files: &[PathBuf]) -> String {
    let done = Command::new("bogofilter")
        .arg("-d")
        .arg(db)
        .args(options)
        .arg("-B")
        .args(files)
        .output()
        .expect("bogofilter is missing: run 'make test', which installs what the tests need");
    String::from_utf8(done.stdout).unwrap()
}

/// What somebody says about the files: that it is junk, and how sure it is.
type Said = Vec<(bool, f64)>;

fn theirs(db: &Path, files: &[PathBuf]) -> Said {
    let said = bogofilter(db, &["-T"], files);
    let said: Said = said
        .lines()
        .map(|line| {
            let mut words = line.split(' ').skip(1);
            (words.next() == Some("S"), words.next().unwrap().parse().unwrap())
        })
        .collect();
    assert_eq!(said.len(), files.len());
    said
}

async fn ours(world: &World, files: &[PathBuf]) -> Said {
    let mut said = Vec::new();
    for file in files {
        let message = Bytes::from(std::fs::read(file).unwrap());
        let judgement = world
            .junk
            .judge(world.account, &Looked::new(&message))
            .await
            .unwrap()
            .unwrap();
        let probability = judgement.score.probability;
        said.push((probability > judgement.threshold, probability));
    }
    said
}

/// Of pairs of junk and other mail, the part that is in the right order: 1 is perfect, a half is by chance.
fn order(junk: &Said, ham: &Said) -> f64 {
    let right = |j: f64, h: f64| match j.total_cmp(&h) {
        std::cmp::Ordering::Greater => 1.0,
        std::cmp::Ordering::Equal => 0.5,
        std::cmp::Ordering::Less => 0.0,
    };
    let pairs = junk.iter().flat_map(|j| ham.iter().map(|h| right(j.1, h.1)));
    pairs.sum::<f64>() / (junk.len() * ham.len()) as f64
}

async fn compare(seed: u64, each: usize) {
    let folder = tempfile::tempdir().unwrap();
    let mut corpus = Corpus::new(seed);
    let learned = write(&mut corpus, folder.path(), "learned", each);
    let asked = write(&mut corpus, folder.path(), "asked", each);

    let db = folder.path().join("bogofilter");
    std::fs::create_dir(&db).unwrap();
    bogofilter(&db, &["-s"], &learned.junk);
    bogofilter(&db, &["-n"], &learned.ham);

    let world = World::new(false).await;
    for (files, bits) in [(&learned.junk, JUNK), (&learned.ham, NOT_JUNK)] {
        for file in files {
            let content = Bytes::from(std::fs::read(file).unwrap());
            let flags = mail::Flags {
                bits,
                keywords: Vec::new(),
            };
            world
                .mail
                .append_one(world.account, "Archive", flags, &content)
                .await
                .unwrap();
        }
    }
    world.learn().await;

    let (our_junk, our_ham) = (ours(&world, &asked.junk).await, ours(&world, &asked.ham).await);
    let (their_junk, their_ham) = (theirs(&db, &asked.junk), theirs(&db, &asked.ham));
    let count = |said: &Said, as_junk: bool| said.iter().filter(|s| s.0 == as_junk).count();
    let figures = |junk: &Said, ham: &Said| (count(junk, false), count(ham, true), order(junk, ham));
    let (we, they) = (figures(&our_junk, &our_ham), figures(&their_junk, &their_ham));
    eprintln!("of {each} junk missed, of {each} others refused, order: mox {we:?}, bogofilter {they:?}");
    // Refusing what is wanted is the worse mistake.
    assert!(we.1 <= they.1, "more of other mail is taken for junk");
    assert!(we.0 + we.1 <= they.0 + they.1, "more mistakes");
    assert!(we.2 >= they.2 - 0.001, "messages are told apart less well");

    world.junk.relearn(world.account, &|_| {}).await.unwrap();
    assert_eq!(ours(&world, &asked.junk).await, our_junk);
    assert_eq!(ours(&world, &asked.ham).await, our_ham);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_filter_is_no_worse_than_bogofilter() {
    compare(1, 150).await;
}

/// `cargo test -p mox-store --release -- --ignored bogofilter`
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes"]
async fn the_filter_is_no_worse_than_bogofilter_on_much_mail() {
    for seed in 0..5 {
        compare(seed, 2000).await;
    }
}
