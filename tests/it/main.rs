//! Everything that neither forks nor kills, in one binary.

mod files;
