"""Passwords in commands as operators write them into tickets and runbooks: as an argument, through a pipe, `<<<`."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.config import RedactConfig
from holdfast.redact.redactor import Redactor

# {} stands for the password.
FORMS = (
    "echo {} | cryptsetup luksOpen /dev/sdb1 data",
    "echo -n '{}' | cryptsetup luksFormat /dev/sdb1 -",
    'echo -n "{}" | sudo cryptsetup luksAddKey /dev/sdb1 --key-file=-',
    "printf '%s' '{}' | cryptsetup open /dev/sdb1 data --key-file -",
    "echo -n {} | tr -d '\\n' | /sbin/cryptsetup luksOpen /dev/sdb1 data",
    "cryptsetup luksOpen /dev/sdb1 data <<< '{}'",
    'cryptsetup luksOpen /dev/sdb1 data <<<"{}"',
    "cryptsetup luksOpen /dev/sdb1 data <<'EOF'\n{}\nEOF\nmount /data",
    "cryptsetup luksOpen /dev/sdb1 data --key-file <(echo -n {})",
    "echo -n {} > /etc/keys/keyfile && cryptsetup luksAddKey /dev/sdb1 /etc/keys/keyfile",
    "- run: `echo {} | systemd-cryptenroll /dev/sda2`",
    "openssl enc -aes-256-cbc -k {} -in a",
    "echo {} | openssl enc -aes-256-cbc -pass stdin -in a",
    "sshpass -p {} ssh root@db01",
    "sshpass -p'{}' ssh root@db01",
    "SSHPASS={} sshpass -e ssh root@db01",
    "mysql -uroot -p'{}' shop",
    "gpg --batch --passphrase {} -c file",
    "echo {} | gpg --batch --passphrase-fd 0 -d f.gpg",
    "curl -uadmin:{} https://db01/",
    "curl -sku admin:{} https://db01/",
    "htpasswd -b /etc/nginx/.htpasswd alice {}",
    "htpasswd -B -c -b -C 10 .htpasswd alice '{}'",
    "htpasswd -nbB alice {}",
    "smbclient //nas/share -U alice%{}",
    "rpcclient -U 'DOM/alice%{}' dc01",
    "ldapsearch -x -D cn=admin -w {} -b dc=x",
    "echo {} | kinit alice",
    "printf '%s\\n' '{}' | kinit alice",
    "kinit alice <<< {}",
    "echo '{}' | sudo -S systemctl restart nginx",
    "ssh db01 \"echo '{}' | sudo -S reboot\"",
    "echo root:{} | sudo chpasswd",
    "printf '%s:%s\\n' root '{}' | chpasswd",
    "chpasswd <<EOF\nroot:{}\nbob:{}\nEOF",
    "echo {} | passwd --stdin root",
    "echo '{}' | docker login -u bob --password-stdin",
    "echo {} | zfs load-key tank/secure",
    "echo {} > ~/.vault_pass",
    "rsync --password-file=<(echo {}) a b::m",
    "restic -r /srv/r --password-command 'echo {}' snapshots",
    "unzip -P {} backup.zip",
    "7z x -p{} backup.7z",
    "keytool -genkey -storepass {} -keypass {}",
    "xfreerdp /u:bob /p:{} /v:win01",
    r"net use Z: \\nas\share /user:bob {}",
    "net user bob {} /add",
    "nxc smb dc01 -u bob -p {}",
    "rabbitmqctl change_password bob {}",
    "mosquitto_pub -p 1883 -u bob -P {} -t x -m y",
    "nmcli dev wifi connect Home password {}",
    "lftp -u bob,{} ftp://files",
    'expect "*assword:"\nsend "{}\\r"',
)
WITH_ITS_PREFIX = (  # one mask for more than the password
    "openssl enc -aes-256-cbc -salt -in a -out b -pass pass:{}",
    "openssl enc -d -aes-256-cbc -pass 'pass:{}' -in a",
    "echo -e '{}\\n{}' | passwd root",
)
HARMLESS = (
    "openssl enc -aes-256-cbc -pass env:PW -in a -out b",
    "openssl enc -aes-256-cbc -pass stdin -in a -out b",
    "echo YES | cryptsetup luksFormat /dev/sdb1 key.bin",
    "echo $PASSPHRASE | cryptsetup luksOpen /dev/sdb1 data",
    'echo "$(pass show luks)" | cryptsetup luksOpen /dev/sdb1 data',
    "echo starting | logger -t passwd",
    "echo done; cryptsetup status data",
    "echo message | gpg --encrypt -r ops",
    "echo 'select 1' | su - postgres -c psql",
    "cryptsetup luksOpen /dev/sdb1 data --key-file /etc/keys/keyfile",
    "echo performance | sudo tee /sys/devices/system/cpu/cpufreq/policy0/scaling_governor",
    "echo 'root:x:0:0' > /etc/passwd",
    "sudo -S bash <<EOF\nsystemctl restart nginx\nEOF",
    "echo 'where the passphrase lies' > passphrase.md",
    "openssl x509 -in cert.pem -noout -text",
    "openssl req -new -key server.pem -keyout other.pem",
    "htpasswd -c /etc/nginx/.htpasswd alice",
    "htpasswd -B .htpasswd alice",
    "net user growth was strong this quarter",
    "the vault login failed again",
    "curl -sSLo out.tgz https://files/a.tgz",
    "mosquitto_sub -p 1883 -t sensors/temp",
    "unzip -l backup.zip && zip -r out.zip dir",
    "7z x backup.7z -oout",
    "df -h | grep passwd | wc -l",
    "smbclient -L //nas -U alice",
    "useradd -m -s /bin/bash bob",
    "| step | command |\n| 1 | passwd bob |",
)


@pytest.fixture(scope="module")
def redactor(tmp_path_factory: pytest.TempPathFactory) -> Redactor:
    return Redactor(RedactConfig(pseudonym_key_file=str(tmp_path_factory.mktemp("key") / "key")))


@pytest.mark.parametrize("secret", ["Tr0ub4dor!x", "kitchen-window"])
@pytest.mark.parametrize("form", FORMS)
def test_the_password_of_a_command_is_hidden_and_its_other_words_stay(
    form: str, secret: str, redactor: Redactor
) -> None:
    masked = redactor.mask(form.replace("{}", secret))
    assert re.sub(r"<PASSWORD_\d+>", "{}", masked) == form
    assert redactor.mask(masked) == masked


@pytest.mark.parametrize("form", WITH_ITS_PREFIX)
def test_no_part_of_the_password_is_left(form: str, redactor: Redactor) -> None:
    masked = redactor.mask(form.replace("{}", "Tr0ub4dor!x"))
    assert "Tr0ub" not in masked and "dor!x" not in masked and redactor.mask(masked) == masked


@pytest.mark.parametrize("text", HARMLESS)
def test_a_command_without_a_password_stays(text: str, redactor: Redactor) -> None:
    assert redactor.mask(text) == text


@given(st.text(st.sampled_from("abcXYZ019 !#+,.:;=?@^_~|&<>()-"), min_size=3, max_size=40))
def test_whatever_stands_between_quotes_is_hidden_whole(middle: str) -> None:
    secret = f"Q{middle}q9"
    for form in ("echo -n '{}' | cryptsetup luksOpen d x", "kinit bob <<< '{}'", "sshpass -p '{}' ssh db01"):
        masked = Redactor(RedactConfig()).mask(form.format(secret))
        assert masked.count("'") == 2 and masked.split("'")[1].startswith("<PASSWORD"), masked
