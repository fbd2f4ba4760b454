def add_augmentation_options(g):
    pass


def augmentation_of(args):
    from model.augmentation import Augmentation

    return Augmentation()


def background_of(args):
    return None
