use std::sync::Arc;

use crate::{Need, WiringProblem};

/// Who stands on whom.
#[derive(Debug)]
pub(crate) struct Graph {
    /// For each service the places of its needs.
    pub(crate) needs: Vec<Vec<usize>>,
    /// All places, needs before those who need them.
    pub(crate) order: Vec<usize>,
}

impl Graph {
    /// Finds the needs by their names.
    ///
    /// Fails with every unknown need and, if there is none, with a cycle.
    pub(crate) fn new(services: &[(Arc<str>, Vec<Need>)]) -> Result<Self, Vec<WiringProblem>> {
        let mut problems = Vec::new();
        let mut needs = Vec::with_capacity(services.len());
        for (service, wanted) in services {
            let mut places = Vec::new();
            for need in wanted {
                match services.iter().position(|(name, _)| name == need.name()) {
                    Some(place) if places.contains(&place) => {}
                    Some(place) => places.push(place),
                    None => problems.push(unknown(service, need, services)),
                }
            }
            needs.push(places);
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let mut visit =
            Visit { needs: &needs, marks: vec![Mark::New; needs.len()], order: Vec::new() };
        for place in 0..needs.len() {
            if let Err(circle) = visit.node(place, &mut Vec::new()) {
                let name = |place: &usize| services.get(*place).map(|(name, _)| name.to_string());
                return Err(vec![WiringProblem::Cycle {
                    path: circle.iter().filter_map(name).collect(),
                }]);
            }
        }
        let order = visit.order;
        Ok(Self { needs, order })
    }
}

fn unknown(service: &str, need: &Need, services: &[(Arc<str>, Vec<Need>)]) -> WiringProblem {
    let names = services.iter().map(|(name, _)| &**name).filter(|name| *name != service);
    WiringProblem::UnknownNeed {
        service: service.to_owned(),
        need: need.name().to_string(),
        suggestion: crate::loader::problem::nearest(need.name(), names).map(str::to_owned),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mark {
    New,
    Open,
    Done,
}

/// A walk that leaves a node after all its needs.
struct Visit<'a> {
    needs: &'a [Vec<usize>],
    marks: Vec<Mark>,
    order: Vec<usize>,
}

impl Visit<'_> {
    /// Fails with the nodes of a circle, the first one again at the end.
    fn node(&mut self, place: usize, path: &mut Vec<usize>) -> Result<(), Vec<usize>> {
        match self.marks.get(place) {
            Some(Mark::New) => {}
            Some(Mark::Open) => {
                let circle = path.iter().copied().skip_while(|before| *before != place);
                return Err(circle.chain([place]).collect());
            }
            Some(Mark::Done) | None => return Ok(()),
        }
        self.mark(place, Mark::Open);
        path.push(place);
        for need in self.needs.get(place).into_iter().flatten() {
            self.node(*need, path)?;
        }
        path.pop();
        self.mark(place, Mark::Done);
        self.order.push(place);
        Ok(())
    }

    fn mark(&mut self, place: usize, mark: Mark) {
        if let Some(slot) = self.marks.get_mut(place) {
            *slot = mark;
        }
    }
}
