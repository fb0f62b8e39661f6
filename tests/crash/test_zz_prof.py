import time
def test_x(world):
    import collections
    spent=collections.Counter(); n=collections.Counter()
    orig=world.invoke
    def inv(f,e):
        t=time.time(); r=orig(f,e); spent[f]+=time.time()-t; n[f]+=1; return r
    world.invoke=inv
    t=time.time()
    world.upload(); world.work(); 
    world.send_events_again(); world.work()
    print("TOTAL",time.time()-t, dict(spent), dict(n))
    import os; print(os.getloadavg())
    assert 0
