"""Public conformance kits for plug-in authors: inherit one, name the plug-in, run pytest.

```python
from auditkit.testing import AttackTests


class TestMyAttack(AttackTests):
    attack = MyAttack()
```

What a kit cannot know is a class attribute with a default; a test that does not fit is put right by setting one, not by
overriding the test. The kits need pytest (`pip install auditkit[test]`), and nothing else of auditkit imports them.
"""

from auditkit.testing.attacks import AttackTests
from auditkit.testing.backbones import BackboneTests
from auditkit.testing.multimodal import MultimodalTests
from auditkit.testing.probes import ProbeTests
from auditkit.testing.unlearners import UnlearnerTests

__all__ = ["AttackTests", "BackboneTests", "MultimodalTests", "ProbeTests", "UnlearnerTests"]
