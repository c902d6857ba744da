from aecli import machine


def test_the_processor_has_a_name(tmp_path, monkeypatch):
    assert machine.processor()
    monkeypatch.setattr(machine, "CPUINFO", tmp_path / "cpuinfo")
    (tmp_path / "cpuinfo").write_text("processor : 0\nmodel name\t: Z80 at 4 MHz\nmodel name : x\n")
    assert machine.processor() == "Z80 at 4 MHz"
    (tmp_path / "cpuinfo").write_text("Processor : 0\n")  # as on ARM
    monkeypatch.setattr(machine.platform, "processor", lambda: "")
    monkeypatch.setattr(machine.platform, "machine", lambda: "aarch64")
    assert machine.processor() == "aarch64"
