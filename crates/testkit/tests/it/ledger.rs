use std::io::Write;
use std::time::Duration;

use trine_testkit::{Error, Ledger, Result, Rng};

use crate::victim;

#[test]
fn a_ledger_in_a_file_is_read_as_it_was_written() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger");
    let first = Ledger::open(&path)?;
    first.attempt("a key with spaces")?;
    first.acknowledge("a key with spaces")?;
    first.attempt("open")?;
    let second = Ledger::open(&path)?;
    second.attempt("later")?;
    second.refuse("later")?;

    let audit = Ledger::read(&path)?.check(["later"]);
    assert!(audit.lost.contains("a key with spaces") && audit.refused.contains("later"));
    assert_eq!((audit.acknowledged, audit.unknown_absent), (1, 1));
    assert_eq!(Ledger::read(&folder.path().join("absent"))?.acknowledged(), 0);
    Ok(())
}

#[test]
fn a_torn_last_line_is_ignored_and_not_glued_to_the_next() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger");
    std::fs::write(&path, "attempt 17\nacknowledge 1").unwrap();
    assert_eq!(Ledger::read(&path)?.check(["17"]).unknown_found, 1);
    let ledger = Ledger::open(&path)?;
    ledger.attempt("18")?;
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text, "attempt 17\nattempt 18\n");
    Ok(())
}

#[test]
fn a_file_that_is_no_ledger_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger");
    std::fs::write(&path, "attempt 17\nhello\n").unwrap();
    let error = Ledger::open(&path).unwrap_err();
    assert!(matches!(&error, Error::Invalid(text) if text.contains("line 2")), "{error}");
}

/// The victim appends a record to its data, then acknowledges it in the ledger;
/// both survive kills at random moments.
#[trine_testkit::test]
async fn a_ledger_survives_kills_of_its_writer(mut rng: Rng) -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger");
    let mut before = 0;
    for round in 0..10 {
        let writer = victim("ledger::victim_that_writes").folder(folder.path()).spawn()?;
        writer.wait_for_log("writing", Duration::from_secs(20)).await?;
        tokio::time::sleep(Duration::from_micros(rng.below(30_000))).await;
        writer.kill().await?;

        let ledger = Ledger::read(&path)?;
        let data = std::fs::read_to_string(folder.path().join("data")).unwrap_or_default();
        let audit = ledger.check(data.lines());
        assert!(audit.is_clean(), "round {round}: {audit}");
        // Each kill leaves at most the write that was under way.
        assert!(audit.unknown_found + audit.unknown_absent <= round + 1, "{audit}");
        assert!(ledger.acknowledged() >= before);
        before = ledger.acknowledged();

        if before > 0 {
            let torn: Vec<_> = data.lines().skip(1).collect();
            assert_eq!(ledger.check(torn).lost.len(), 1, "a planted loss is found");
        }
    }
    assert!(before > 0, "the writer never got to write");
    Ok(())
}

#[test]
#[ignore = "run as a process of its own by another test"]
fn victim_that_writes() {
    let ledger = Ledger::open("ledger".as_ref()).unwrap();
    let mut data = std::fs::File::options().create(true).append(true).open("data").unwrap();
    println!("\nwriting");
    for number in 0.. {
        let id = format!("{}-{number}", std::process::id());
        ledger.attempt(&id).unwrap();
        data.write_all(format!("{id}\n").as_bytes()).unwrap();
        ledger.acknowledge(&id).unwrap();
    }
}
