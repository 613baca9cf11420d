//! Which unit owns which cell: open addressing in a canonical order.
//!
//! Each unit throws darts at cells until it gets one; a cell goes to the least (unit, identity, number) of all units
//! that ask for it, and who is turned out throws his next dart. As all cells rank the units alike, the outcome is
//! the one of seating the units in that order one after the other: it does not depend on the order in which they
//! came (the stable matching of Gale and Shapley, unique under a common ranking). A join therefore shifts the units
//! that it turns out, about one on average at a load of .75, and a leave lets as many move back.

use crate::cells::{BACKSTOP_SLOTS, CellTable, EMPTY};
use crate::error::RingError;
use crate::fill::{Fill, Slots, boxed};
use crate::hash::{dart, unit_hash};
use crate::member::{Limits, Members};

/// A table of cells with what it takes to change it.
#[derive(Clone, Debug)]
pub(crate) struct CellRing<const CELLS: usize> {
    members: Members,
    table: CellTable<CELLS>,
    /// The unit in each occupied cell of the table.
    occupants: Box<[Occupant; CELLS]>,
    backstop: Slots<u32, BACKSTOP_SLOTS, 1>,
    backstop_fill: Fill<BACKSTOP_SLOTS, 1>,
    /// Members of more than one unit.
    heavy_members: usize,
}

/// A unit, and the round of the dart that it sits by.
#[derive(Clone, Copy, Debug, Default)]
struct Occupant {
    unit: u64,
    number: u32,
    round: u32,
}

impl<const CELLS: usize> CellRing<CELLS> {
    /// A load of .85: above it the darts of a unit, and the shifts of a join, grow fast.
    pub(crate) const UNITS_MAX: u64 = CELLS as u64 * 85 / 100;

    pub(crate) fn new(
        ring_seed: u64,
        units_each_max: u32,
        list: &[(Box<[u8]>, u32)],
    ) -> Result<Self, RingError> {
        let limits =
            Limits { members_max: Self::UNITS_MAX as usize, units_each_max, units_max: Self::UNITS_MAX };
        let members = Members::new(ring_seed, limits, list)?;
        let (backstop_fill, backstop) = Fill::build(&members);
        let table = CellTable {
            owners: boxed(EMPTY),
            occupied: vec![0; CELLS / 64].into(),
            backstop: boxed(EMPTY),
            members: 0,
            single_units: true,
        };
        let mut ring = CellRing {
            members,
            table,
            occupants: boxed(Occupant::default()),
            backstop,
            backstop_fill,
            heavy_members: 0,
        };
        ring.heavy_members = ring.members.iter().filter(|(_, member)| member.units() > 1).count();
        ring.seat_all();
        ring.refresh();
        Ok(ring)
    }

    pub(crate) fn table(&self) -> &CellTable<CELLS> {
        &self.table
    }

    pub(crate) fn members(&self) -> &Members {
        &self.members
    }

    pub(crate) fn fingerprint(&self) -> u64 {
        let seeds: Vec<(u64, u32)> =
            self.members.circle().map(|(seed, index)| (seed, index as u32)).collect();
        self.table.fingerprint(&seeds)
    }

    pub(crate) fn join(&mut self, identity: &[u8], units: u32) -> Result<usize, RingError> {
        let index = self.members.join(identity, units)?;
        self.backstop_fill.join(&mut self.backstop, &self.members, index);
        self.seat(index, 0);
        self.heavy_members += usize::from(units > 1);
        self.refresh();
        Ok(index)
    }

    pub(crate) fn leave(&mut self, index: usize) -> Result<(), RingError> {
        if self.members.len() > 1 {
            self.vacate(index, 0)?;
        }
        let leaver = self.members.leave(index)?;
        self.backstop_fill.leave(&mut self.backstop, &self.members, index);
        self.heavy_members -= usize::from(leaver.units() > 1);
        self.refresh();
        Ok(())
    }

    pub(crate) fn reweight(&mut self, index: usize, units: u32) -> Result<(), RingError> {
        let before = self.members.reweight(index, units)?;
        if units > before {
            self.backstop_fill.raise(&mut self.backstop, &self.members, index, before);
            self.seat(index, before);
        } else if units < before {
            self.members.reweight(index, before)?;
            self.vacate(index, units)?;
            self.members.reweight(index, units)?;
            (self.backstop_fill, self.backstop) = Fill::build(&self.members);
        }
        self.heavy_members += usize::from(units > 1);
        self.heavy_members -= usize::from(before > 1);
        self.refresh();
        Ok(())
    }

    /// Seats everybody, in the order of rank, so that nobody is turned out.
    fn seat_all(&mut self) {
        let mut units: Vec<(u64, u32, u32)> = Vec::with_capacity(self.members.units() as usize);
        for (index, member) in self.members.iter() {
            units.extend(member.unit_hashes().zip(0..).map(|(unit, number)| (unit, number, index as u32)));
        }
        // Ties between units are settled when they meet.
        units.sort_unstable();
        for (unit, number, owner) in units {
            self.seat_unit(owner, Occupant { unit, number, round: 0 });
        }
    }

    /// Seats the units of a member from this number on.
    fn seat(&mut self, index: usize, number_from: u32) {
        let member = self.members.member(index);
        let (seed, units) = (member.seed(), member.units());
        for number in number_from..units {
            self.seat_unit(index as u32, Occupant { unit: unit_hash(seed, number), number, round: 0 });
        }
    }

    /// Ends: each throw either moves the newcomer on, which at a load of .85 ends after 7 darts on average, or turns
    /// out a unit of lower rank, of which there are fewer each time.
    fn seat_unit(&mut self, mut owner: u32, mut newcomer: Occupant) {
        loop {
            let cell = Self::cell(newcomer.unit, newcomer.round);
            if self.table.owners[cell] == EMPTY {
                self.occupy(cell, owner, newcomer);
                return;
            }
            if self.rank(owner, &newcomer) < self.rank(self.table.owners[cell], &self.occupants[cell]) {
                std::mem::swap(&mut owner, &mut self.table.owners[cell]);
                std::mem::swap(&mut newcomer, &mut self.occupants[cell]);
            }
            newcomer.round += 1;
        }
    }

    /// Empties the cells of a member's units from this number on, and lets those move up who were turned away.
    fn vacate(&mut self, index: usize, number_from: u32) -> Result<(), RingError> {
        self.members.get(index).ok_or(RingError::UnknownMember { index })?;
        let is_leaving = |ring: &Self, cell: usize| {
            ring.table.owners[cell] == index as u32 && ring.occupants[cell].number >= number_from
        };
        let leaving: Vec<usize> = (0..CELLS).filter(|&cell| is_leaving(self, cell)).collect();
        for &cell in &leaving {
            self.table.owners[cell] = EMPTY;
            self.table.occupied[cell / 64] &= !(1 << (cell % 64));
        }
        for cell in leaving {
            self.move_up(cell);
        }
        Ok(())
    }

    /// Gives an empty cell to the first in rank of those who were turned away from it, then the cell that this one
    /// leaves, and so on. Each move takes a unit to an earlier dart of its own, so it ends.
    fn move_up(&mut self, mut hole: usize) {
        while let Some((from, round)) = self.first_turned_away(hole) {
            let occupant = Occupant { round, ..self.occupants[from] };
            let owner = std::mem::replace(&mut self.table.owners[from], EMPTY);
            self.table.occupied[from / 64] &= !(1 << (from % 64));
            self.occupy(hole, owner, occupant);
            hole = from;
        }
    }

    /// Where the first in rank sits of those who threw an earlier dart at this cell, and that dart's round.
    fn first_turned_away(&self, hole: usize) -> Option<(usize, u32)> {
        let mut first: Option<(usize, u32)> = None;
        for (cell, occupant) in self.occupants.iter().enumerate() {
            if occupant.round == 0 || self.table.owners[cell] == EMPTY {
                continue;
            }
            let mut rounds = 0..occupant.round;
            let Some(round) = rounds.find(|&round| Self::cell(occupant.unit, round) == hole) else {
                continue;
            };
            if first.is_none_or(|(other, _)| self.rank_at(cell) < self.rank_at(other)) {
                first = Some((cell, round));
            }
        }
        first
    }

    fn occupy(&mut self, cell: usize, owner: u32, occupant: Occupant) {
        self.table.owners[cell] = owner;
        self.table.occupied[cell / 64] |= 1 << (cell % 64);
        self.occupants[cell] = occupant;
    }

    /// Brings up to date what the table holds besides the cells.
    fn refresh(&mut self) {
        self.table.backstop.copy_from_slice(self.backstop.owners.as_slice());
        self.table.members = self.members.len();
        self.table.single_units = self.heavy_members == 0;
    }

    fn rank_at(&self, cell: usize) -> (u64, &[u8], u32) {
        self.rank(self.table.owners[cell], &self.occupants[cell])
    }

    fn rank(&self, owner: u32, occupant: &Occupant) -> (u64, &[u8], u32) {
        (occupant.unit, self.members.member(owner as usize).identity(), occupant.number)
    }

    fn cell(unit: u64, round: u32) -> usize {
        (dart(unit, round) >> (u64::BITS - CELLS.trailing_zeros())) as usize
    }
}
