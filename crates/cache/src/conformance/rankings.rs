use super::{Fixture, Op, assert_invalid, key, one};
use crate::{Order, Placed, Ranked, SortedMode};

fn names(placed: &[Placed]) -> Vec<&str> {
    placed.iter().map(|each| &*each.member).collect()
}

/// The highest first; equal ones by their members.
pub async fn rankings_are_in_the_order_of_scores(fixture: Fixture) {
    let cache = fixture.start().await;
    let ranking = cache.ranking("r").unwrap();
    assert!(ranking.range(0, -1).await.unwrap().is_empty());
    let members = [("low", -1.5), ("b", 2.0), ("a", 2.0), ("c", 2.0), ("high", 1e300)];
    assert_eq!(ranking.put(members).await.unwrap(), 5);
    let all = ranking.range(0, -1).await.unwrap();
    assert_eq!(names(&all), ["high", "c", "b", "a", "low"]);
    assert_eq!(all.iter().map(|each| each.score).collect::<Vec<_>>(), [1e300, 2.0, 2.0, 2.0, -1.5]);
    assert_eq!(names(&ranking.range(-2, -1).await.unwrap()), ["a", "low"]);
    assert_eq!(names(&ranking.range(1, 2).await.unwrap()), ["c", "b"]);
    assert!(ranking.range(5, 9).await.unwrap().is_empty());
    assert!(ranking.range(2, 1).await.unwrap().is_empty());
    assert_eq!(names(&ranking.by_score(2.0, 2.0, 0, 9).await.unwrap()), ["c", "b", "a"]);
    assert_eq!(names(&ranking.by_score(-9.0, 2.0, 1, 2).await.unwrap()), ["b", "a"]);
    assert_eq!(names(&ranking.by_score(-9.0, 2.0, 0, 0).await.unwrap()), [""; 0]);
    assert_eq!(ranking.count(-1.5, 2.0).await.unwrap(), 4);
    assert_eq!(ranking.len().await.unwrap(), 5);
    let (key, order) = (key("r"), Order::Ascending);
    let up = Op::SortedByPlace { key: key.clone(), start: 0, stop: 1, order };
    let up = one(&cache, up).await.unwrap().into_scored().unwrap();
    assert_eq!(up.iter().map(|each| &each.member[..]).collect::<Vec<_>>(), [&b"low"[..], b"a"]);
    let up = Op::SortedByScore { key, min: 2.0, max: 9.0, order, skip: 1, count: 1 };
    let up = one(&cache, up).await.unwrap().into_scored().unwrap();
    assert_eq!(up.iter().map(|each| &each.member[..]).collect::<Vec<_>>(), [&b"b"[..]]);
}

/// Both of one moment, counted from either side.
pub async fn a_rank_comes_with_its_score(fixture: Fixture) {
    let cache = fixture.start().await;
    let ranking = cache.ranking("r").unwrap();
    assert_eq!(ranking.rank("a").await.unwrap(), None);
    ranking.put([("a", 1.0), ("b", 2.5), ("c", 3.0)]).await.unwrap();
    assert_eq!(ranking.rank("b").await.unwrap(), Some(Ranked::new(1, 2.5)));
    assert_eq!(ranking.rank("x").await.unwrap(), None);
    let op = Op::SortedRank { key: key("r"), member: "a".into(), order: Order::Ascending };
    let ranked = one(&cache, op).await.unwrap().into_ranked().unwrap();
    assert_eq!(ranked, Some(Ranked::new(0, 1.0)));
    assert_eq!(ranking.add("a", 5.0).await.unwrap(), 6.0);
    assert_eq!(ranking.rank("a").await.unwrap(), Some(Ranked::new(0, 6.0)));
}

/// For new members, present ones, higher or lower scores.
pub async fn scores_are_written_where_the_mode_allows(fixture: Fixture) {
    let cache = fixture.start().await;
    let ranking = cache.ranking("r").unwrap();
    ranking.put([("a", 5.0)]).await.unwrap();
    let put = async |mode, score: f64| {
        let new = ranking.put_if([("a", score), ("new", score)], mode).await.unwrap();
        let scores = ranking.scores(["a", "new"]).await.unwrap();
        ranking.put([("a", 5.0)]).await.unwrap();
        ranking.remove(["new"]).await.unwrap();
        (new, scores)
    };
    assert_eq!(put(SortedMode::Always, 3.0).await, (1, vec![Some(3.0), Some(3.0)]));
    assert_eq!(put(SortedMode::IfAbsent, 3.0).await, (1, vec![Some(5.0), Some(3.0)]));
    assert_eq!(put(SortedMode::IfPresent, 3.0).await, (0, vec![Some(3.0), None]));
    assert_eq!(put(SortedMode::IfHigher, 3.0).await, (1, vec![Some(5.0), Some(3.0)]));
    assert_eq!(put(SortedMode::IfHigher, 7.0).await, (1, vec![Some(7.0), Some(7.0)]));
    assert_eq!(put(SortedMode::IfLower, 3.0).await, (1, vec![Some(3.0), Some(3.0)]));
    assert_eq!(put(SortedMode::IfLower, 7.0).await, (1, vec![Some(5.0), Some(7.0)]));
}

/// By member, by score and by place.
pub async fn scores_are_read_removed_and_cut(fixture: Fixture) {
    let cache = fixture.start().await;
    let ranking = cache.ranking("r").unwrap();
    let members = (0..10).map(|number| (format!("m{number}"), f64::from(number)));
    ranking.put(members).await.unwrap();
    let scores = ranking.scores(["m3", "x", "m1"]).await.unwrap();
    assert_eq!(scores, [Some(3.0), None, Some(1.0)]);
    assert_eq!(ranking.remove(["m3", "x"]).await.unwrap(), 1);
    assert_eq!(ranking.remove_scores(0.0, 2.0).await.unwrap(), 3);
    assert_eq!(names(&ranking.pop(2).await.unwrap()), ["m9", "m8"]);
    assert_eq!(ranking.keep_best(3).await.unwrap(), 1);
    assert_eq!(names(&ranking.range(0, -1).await.unwrap()), ["m7", "m6", "m5"]);
    let places = Op::SortedRemovePlaces { key: key("r"), start: 0, stop: 0 };
    assert_eq!(one(&cache, places).await.unwrap().into_count().unwrap(), 1);
    let pop = Op::SortedPop { key: key("r"), order: Order::Ascending, count: 9 };
    let popped = one(&cache, pop).await.unwrap().into_scored().unwrap();
    assert_eq!(popped.iter().map(|each| each.score).collect::<Vec<_>>(), [6.0, 7.0]);
    ranking.put([("a", 1.0)]).await.unwrap();
    ranking.clear().await.unwrap();
    assert_eq!(ranking.len().await.unwrap(), 0);
}

/// What is no number is refused, and nothing is written.
pub async fn scores_may_be_infinite_but_are_numbers(fixture: Fixture) {
    let cache = fixture.start().await;
    let ranking = cache.ranking("r").unwrap();
    ranking.put([("top", f64::INFINITY), ("bottom", f64::NEG_INFINITY)]).await.unwrap();
    assert_eq!(names(&ranking.range(0, -1).await.unwrap()), ["top", "bottom"]);
    assert_eq!(ranking.count(f64::NEG_INFINITY, f64::INFINITY).await.unwrap(), 2);
    assert_eq!(ranking.by_score(0.0, f64::INFINITY, 0, 9).await.unwrap().len(), 1);
    assert_invalid(ranking.put([("a", 1.0), ("nan", f64::NAN)]).await);
    assert_invalid(ranking.add("a", f64::NAN).await);
    assert_invalid(ranking.count(f64::NAN, 1.0).await);
    assert_invalid(ranking.add("top", f64::NEG_INFINITY).await);
    assert_eq!(ranking.scores(["a", "top"]).await.unwrap(), [None, Some(f64::INFINITY)]);
    for score in [0.1, -0.1, 1.0 / 3.0, 5e-324, f64::MAX, 9_007_199_254_740_993.0] {
        ranking.put([("exact", score)]).await.unwrap();
        assert_eq!(ranking.scores(["exact"]).await.unwrap(), [Some(score)]);
        assert_eq!(ranking.rank("exact").await.unwrap().unwrap().score, score);
    }
}
