//! | number | answered because |
//! |---|---|
//! | 1050, 1007, 1304, 1359, 1537 | the table or view, database, procedure, trigger or event is there |
//! | 1060, 1061, 1068, 1826, 121 below 1005 | the column, key, primary key or foreign key is there |
//! | 1008, 1051, 1091, 1305, 1360, 1539 | what was to be dropped is gone |

use sqlx::mysql::MySqlDatabaseError;

pub(super) fn says_done(answer: &sqlx::Error) -> bool {
    let sqlx::Error::Database(answer) = answer else {
        return false;
    };
    answer
        .try_downcast_ref::<MySqlDatabaseError>()
        .is_some_and(|answer| is_done(answer.number(), answer.message()))
}

fn is_done(number: u16, message: &str) -> bool {
    match number {
        1050 | 1007 | 1304 | 1359 | 1537 => true,
        1060 | 1061 | 1068 | 1826 => true,
        // "Can't create table …": only the storage engine's number tells that
        // a foreign key of this name is there.
        1005 => message.contains("errno: 121"),
        1008 | 1051 | 1091 | 1305 | 1360 | 1539 => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_there_or_gone_counts_as_done() {
        assert!(is_done(1050, "Table 'a' already exists"));
        assert!(is_done(1005, "Can't create table `d`.`a` (errno: 121 \"Duplicate key\")"));
        assert!(!is_done(1005, "Can't create table `d`.`a` (errno: 150 \"Foreign key\")"));
        // A syntax error, a duplicate value, a column that is not there.
        for number in [1064, 1062, 1054, 1146] {
            assert!(!is_done(number, ""), "{number}");
        }
    }
}
