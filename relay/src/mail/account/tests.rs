mod admission;
mod crash;
mod delivery;
mod fixture;
mod options;
mod random;
mod retained;
mod retry;
