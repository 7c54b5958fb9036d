//! The command as a person and a script use it: the real program, in processes of its own.

#[cfg(test)]
mod demo;
#[cfg(test)]
mod holdfast;
#[cfg(test)]
mod mail;
#[cfg(test)]
mod scripts;
