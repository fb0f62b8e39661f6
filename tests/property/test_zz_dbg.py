from collections import Counter
import pytest
from tests.property import test_ledger as m
from tests.property.test_ledger import *
C=Counter(); 
class Dbg(m.Concurrent):
    def teardown(self):
        C["runs"]+=1; C["att%d"%self.known.attempt]+=1; C["sent%d"%sum(self.sent.values())]+=1; C["owners"]+=next(self.owners)-1; C["now"]+=self.now-1_795_000_000.0
def test_dbg():
    run_state_machine_as_test(Dbg, settings=settings(max_examples=50, stateful_step_count=30))
    print("DBG",C); assert 0
