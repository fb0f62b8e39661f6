import time, resource, collections
from tests.crash.test_crash_points import drive, SUBMIT
def test_x(world):
    spent=collections.Counter(); n=collections.Counter()
    orig=world.invoke
    def inv(f,e):
        t=time.time(); r=orig(f,e); spent[f]+=time.time()-t; n[f]+=1; return r
    world.invoke=inv
    for k in ("executions","depth","accepted","handle_message"):
        def mk(o,k):
            def w(*a):
                t=time.time(); r=o(*a); spent[k]+=time.time()-t; n[k]+=1; return r
            return w
        setattr(world,k,mk(getattr(world,k),k))
    t=time.time(); c=time.process_time()
    world.upload(); 
    drive(world, SUBMIT["answered"])
    print("TOTAL",time.time()-t, time.process_time()-c, dict(spent), dict(n))
    assert 0
