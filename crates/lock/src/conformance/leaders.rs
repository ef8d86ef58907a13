use super::{Deadline, Duration, ErrorKind, Fixture, any, assert_kind, in_time};
use crate::{Election, Leader, Leadership};

async fn lead(election: &Election) -> Leader {
    match in_time(election.lead()).await {
        Some(leader) => leader,
        None => super::panic_with("it does not stand any more"),
    }
}

/// When the first resigns, or leaves.
pub async fn one_candidate_leads_and_another_takes_over(fixture: Fixture) {
    let (a, b) = (fixture.start().await, fixture.start().await);
    let first = a.elect("planner", any()).unwrap();
    let leader = lead(&first).await;
    assert!(leader.is_leading() && leader.fence().key() == "lock.default/planner");
    let second = b.elect("planner", any()).unwrap();
    super::until_waiting(&a, "planner", 1).await;
    assert!(matches!(*second.leadership().borrow(), Leadership::Follower));
    let seen = first.leadership();
    first.resign().await;
    assert!(!leader.is_leading() && leader.cancellation().is_cancelled());
    assert!(matches!(*seen.borrow(), Leadership::Over));
    let next = lead(&second).await;
    assert!(next.fence().token() > leader.fence().token());
    let third = a.elect("planner", any()).unwrap();
    super::until_waiting(&a, "planner", 1).await;
    drop(second);
    let last = lead(&third).await;
    assert!(last.is_leading() && !next.is_leading());
}

/// It knows by its clock and by what the store tells, and stands again.
pub async fn a_leader_that_is_lost_leads_no_more(fixture: Fixture) {
    let (a, b) = (fixture.start().await, fixture.start().await);
    let election = a.elect("planner", any()).unwrap();
    let leader = lead(&election).await;
    let stolen = b.steal("planner", any()).await.unwrap();
    if !a.capabilities().push_loss {
        fixture.pass(super::TTL / 2).await;
    }
    in_time(leader.cancellation().cancelled_owned()).await;
    assert!(!leader.is_leading() && leader.remaining().is_zero());
    stolen.release().await.unwrap();
    assert!(lead(&election).await.fence().token() > leader.fence().token());
}

/// And others lead.
pub async fn a_shutdown_ends_a_candidacy(fixture: Fixture) {
    let (a, b) = (fixture.start().await, fixture.start().await);
    assert_kind(a.elect("a#b", any()), ErrorKind::Invalid);
    assert_kind(a.elect("a", any().with_ttl(Duration::ZERO)), ErrorKind::Invalid);
    let leading = a.elect("planner", any()).unwrap();
    let leader = lead(&leading).await;
    let waiting = b.elect("planner", any()).unwrap();
    a.shutdown(Deadline::after(Duration::from_secs(10))).await.unwrap();
    assert!(!leader.is_leading());
    assert!(in_time(leading.lead()).await.is_none());
    assert!(lead(&waiting).await.is_leading());
    assert_kind(a.elect("planner", any()), ErrorKind::Closed);
}
