"""Secrets in the files of tools: each is hidden, masking again changes nothing, and what looks alike stays."""

from base64 import b64encode
from pathlib import Path

import pytest

from holdfast.core.redact_config import RedactConfig
from holdfast.redact.redactor import Redactor

PEM = (
    "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj",
    "MzEfYyjiWA4R4/M2bS1GB4t7NXp98C3SC6dVMvDuictGeurT8jNbvJZHtCSuYEvu",
)
ENCODED = b64encode(f"-----BEGIN RSA PRIVATE KEY-----\n{PEM[0]}\n".encode()).decode()
AUTHS = b64encode(b'{"auths": {"r.io": {"auth": "Ym9iOnMzY3I="}}}').decode()
T = "q7W2nVx8Lk3Pz5Tb1Rm9Yc4Hd6"
JWT = "eyJhbGciOiJIUzI1NiJ9", "eyJzdWIiOiIxMjM0", "NTY3ODkwIn0", "SflKxwRJSMeKKF2QT4fwpMeJf36P", "Ok6yJV_adQssw5c"
SECRETS = {
    "netrc": ("machine git login deploy password tr0ub4dor", "tr0ub4dor"),
    "netrc over lines": ("machine git\n  login deploy\n  password correcthorse\n", "correcthorse"),
    "Secret": ("kind: Secret\nstringData:\n  conn: blauerHimmel\n  note: wolke-neun\n", "blauerHimmel", "wolke-neun"),
    "vault": ("pw: !vault |\n  $ANSIBLE_VAULT;1.1;AES256\n  6638643965323633\n  3462\n", "6638643965323633", "3462"),
    "key in Base64": (f"blob {ENCODED}", ENCODED[:30]),
    "key in quotes": (f'"{PEM[0]}",\n  "{PEM[1]}",', *PEM),
    "quoted key": (f"> {PEM[0]}\n> {PEM[1]}", *PEM),
    "registry": (f".dockerconfigjson: {AUTHS}", AUTHS),
    "broken JWT": (f"{JWT[0]}.\n{JWT[1]}\n{JWT[2]}.{JWT[3]}\n{JWT[4]}", *JWT),
    "state": ('"db_dsn":{"value":"wolkeSturm99x","type":"string","sensitive":true}', "wolkeSturm99x"),
    "output": ('"db_dsn":{"sensitive":true,"type":"string","value":"wolkeSturm99x"}', "wolkeSturm99x"),
    "shadow": ("root:$6$salt$IxDD3jeSOb5eB1CX5LBsqZFVkJdido3OUIL:1:0:::", "IxDD3jeSOb5"),
    "htpasswd": ("bob:$apr1$lZL6V/ci$eIMz/iKDkbtys/uU7LEK00", "eIMz/iKDk"),
    "router": ("username bob password 7 0822455D0A16", "0822455D0A16"),
    "XML": ("<dbPassword>Sommerregen9</dbPassword>", "Sommerregen9"),
    "XML attributes": ('<add key="DbPassword" value="Sommerregen9"/>', "Sommerregen9"),
    "variable of a container": ("- name: DB_PASSWORD\n  value: sommerregen", "sommerregen"),
    "Go": ("app:Sommerregen9@tcp(db01:3306)/orders", "Sommerregen9"),
    "Oracle": ("jdbc:oracle:thin:scott/tigerzahn7@db01:1521/X", "tigerzahn7"),
    "chpasswd": ("echo 'root:Sommerregen9' | chpasswd", "Sommerregen9"),
    "bootstrap": ("the join token abcdef.0123456789abcdef leaked", "0123456789abcdef"),
    "webhook": (f"http://h/integrations/v1/alertmanager/{T}/", T),
    "variable of Terraform": ('variable "db_password" {\n  type = string\n  default = "sommerregen"\n}', "sommerregen"),
    "IPMI": ("ipmitool -I lanplus -H bmc -p 6230 -U ADMIN -P calvin99 power status", "calvin99"),
    "FreeIPMI": ("ipmipower -h bmc -u root -p calvin99 --stat", "calvin99"),
    "SNMP": ("snmpwalk -v2c -c c0mmUnity sw1 sysUpTime", "c0mmUnity"),
    "SNMP 3": ("snmpget -v3 -u ops -a SHA -A authWord9 -x AES -X privWord9 sw1", "authWord9", "privWord9"),
    "etcd": ("etcdctl --user root:Etcd9Word get /", "Etcd9Word"),
    "smbclient": ("smbclient //nas/share -U bob -p tigerzahn7", "tigerzahn7"),
    "German": ("Das Kennwort lautet Sommer2024", "Sommer2024"),
    "MAC": ("MAC address aabbccddee0f", "aabbccddee0f"),
}  # fmt: skip
HARMLESS = (
    "kind: ConfigMap\ndata:\n  level: debug\n  region: north\n",
    "kind: Secret\ndata:\n  level: ${LEVEL}\n",
    "- name: DB_PASSWORD\n  valueFrom: {secretKeyRef: {name: db, key: pw}}",
    "- name: MAX_TOKEN\n  value: 4096",
    '{"name": "next_token", "value": "none"}',
    "<password>${env.PW}</password>",
    '{"region": {"value": "eu-central", "sensitive": false}}',
    "Costs are $1$ or $2$ per item; $6$ is the limit.",
    "token files.go and token budget.remaining",
    "the mac book of decade",
    "ipmitool -p 6230 -f /etc/ipmi.conf chassis status",
    "snmpwalk -v2c -c public sw1 sysUpTime",
    "mysql -P 3306 -h db -u app",
    'variable "token_ttl" {\n  default = "3600"\n}',
    'variable "db_password" {\n  sensitive = true\n}\nvariable "zone" {\n  default = "north"\n}',
    "eyJhbGciOiJIUzI1NiJ9 is only a head.\nNothing else.",
    '<add key="theme" value="dark-mode-2"/>',
)


@pytest.fixture
def redactor(tmp_path: Path) -> Redactor:
    return Redactor(RedactConfig(pseudonym_key_file=str(tmp_path / "key")))


@pytest.mark.parametrize("name", SECRETS)
def test_the_secret_is_hidden_and_stays_hidden(name: str, redactor: Redactor) -> None:
    text, *secrets = SECRETS[name]
    masked = redactor.mask(text)
    assert [secret for secret in secrets if secret in masked] == []
    assert redactor.mask(masked) == masked


@pytest.mark.parametrize("text", HARMLESS)
def test_what_only_looks_alike_stays(text: str, redactor: Redactor) -> None:
    assert redactor.mask(text) == text


def test_punctuation_within_quotes_is_part_of_a_password(redactor: Redactor) -> None:
    assert redactor.mask("sshpass -p 'tigerzahn7!' ssh bastion") == "sshpass -p '<PASSWORD_1>' ssh bastion"


def test_the_line_behind_a_whole_jwt_stays(redactor: Redactor) -> None:
    assert redactor.mask(f"{JWT[0]}.{JWT[1]}{JWT[2]}.{JWT[3]}{JWT[4]}\nnextline") == "<JWT_1>\nnextline"
