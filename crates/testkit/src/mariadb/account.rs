use crate::account::Account;

/// Returns what a new server has to be told: who may log in. The accounts that
/// it was installed with have no password and go.
pub(super) fn set_up(admin: &Account, user: &Account, database: &str) -> Vec<String> {
    let (admin, admin_password) = (admin.name(), admin.password());
    let (user, user_password) = (user.name(), user.password());
    vec![
        format!("CREATE USER IF NOT EXISTS '{admin}'@'%' IDENTIFIED BY '{admin_password}'"),
        format!("GRANT ALL ON *.* TO '{admin}'@'%' WITH GRANT OPTION"),
        format!("CREATE USER IF NOT EXISTS '{user}'@'%' IDENTIFIED BY '{user_password}'"),
        format!("GRANT ALL ON *.* TO '{user}'@'%'"),
        // Whoever has one of these writes to a read-only server.
        format!("REVOKE SUPER, READ_ONLY ADMIN ON *.* FROM '{user}'@'%'"),
        "DELETE FROM mysql.global_priv WHERE User IN ('', 'root')".into(),
        "FLUSH PRIVILEGES".into(),
        format!("CREATE DATABASE IF NOT EXISTS `{database}`"),
    ]
}
