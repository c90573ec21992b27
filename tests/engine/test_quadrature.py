from attattr_batch.engine.attribution import attribute_layers
def test_x(): pass
