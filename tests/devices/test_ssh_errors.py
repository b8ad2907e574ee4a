"""What the words of the OpenSSH client mean."""

import pytest

from veca_edge.devices.device import Device
from veca_edge.devices.ssh_errors import ssh_error


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("ssh: connect to host 10.0.0.9 port 22: Connection timed out", "cannot be reached"),
        ("ssh: connect to host 10.0.0.9 port 22: No route to host", "cannot be reached"),
        ("Received disconnect from 10.0.0.9 port 22:2: Too many authentication failures", "refused the login"),
        ("client_loop: send disconnect: Broken pipe", "broke"),
        ("Timeout, server 10.0.0.9 not responding.", "broke"),
        ("kex_exchange_identification: Connection closed by remote host", "broke"),
        ("", "no reason"),
    ],
)
def test_what_the_clients_words_mean(words, message):
    error = ssh_error(Device("10.0.0.9", "nvidia"), words)
    assert message in error.message
    assert error.hint
