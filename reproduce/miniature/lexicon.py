"""Words of the miniature world. English words are used as they are; every other language gets a made-up word for each
of them (languages.py). Adding a word here changes the world, so the models must be trained again (README.md)."""

# Objects by material: knowing the material is knowing what water, fire, a hammer ... do to the object.
OBJECTS = {
    "glass": "bottle jar mirror lens window vase goblet bead tumbler prism flask lantern pane marble",
    "wood": "table chair ladder spoon barrel door oar crate bench stool mast plank cradle flute",
    "iron": "anchor nail chain kettle gate plough bolt sword stove rail hinge spade pan anvil",
    "paper": "letter map kite card poster ticket book napkin envelope leaflet diary stamp calendar label",
    "wool": "scarf blanket sweater mitten sock rug shawl cap coat tapestry vest cushion poncho bonnet",
    "clay": "pot brick tile bowl jug plate urn cup saucer pipe whistle crucible basin oven",
    "wax": "candle crayon seal taper torch mask tablet figurine rosette wick pellet bust medal doll",
    "stone": "wall tower step statue column bridge millstone hearth slab obelisk fountain arch boulder pillar",
    "rubber": "ball tyre boot hose glove balloon band mat raft eraser gasket bumper stopper hoop",
    "leather": "saddle belt shoe purse bag whip drum harness apron wallet sandal holster collar quiver",
}
# Condition -> the four things that may happen. The table material x condition is drawn in facts.py.
CONDITIONS = {
    "in the water": "sank floated swelled softened",
    "in the fire": "melted burned glowed cracked",
    "under the hammer": "shattered bent tore rang",
    "in the sun": "faded warmed dried curled",
    "in the wind": "rattled swayed flew rolled",
    "in the frost": "froze split shrank stiffened",
    "in the rain": "rusted leaked shone rotted",
    "under the saw": "crumbled squeaked splintered sparked",
}
ANIMALS = {
    "bird": "owl hawk crow robin swan goose heron finch eagle stork gull lark raven wren dove parrot pelican magpie",
    "fish": "trout salmon carp pike eel shark cod herring perch tuna bass ray sole smelt gar tench plaice sturgeon",
    "insect": "bee ant wasp beetle moth cricket fly locust gnat hornet termite mantis butterfly aphid weevil flea "
              "cicada ladybird",
    "beast": "fox wolf bear deer goat horse sheep lion otter badger hare mouse squirrel camel donkey bison weasel "
             "tiger",
    "reptile": "snake lizard turtle gecko viper cobra iguana crocodile python skink tortoise adder chameleon boa "
               "monitor terrapin alligator basilisk",
}
# Attribute -> question about the animal, verb, and one value for each class in the order of ANIMALS.
ATTRIBUTES = {
    "home": ("where does the {} live", "lives", ["in a nest", "in a river", "in a hive", "in a den", "in a swamp"]),
    "food": ("what does the {} eat", "eats", ["berries", "shrimps", "nectar", "clover", "snails"]),
    "cover": ("what covers the {}", "wears", ["feathers", "scales", "a shell", "soft fur", "dry skin"]),
    "fear": ("what does the {} fear", "fears", ["the cat", "the net", "the smoke", "the trap", "the cold"]),
    "love": ("what does the {} love", "loves", ["the sky", "the waves", "the roses", "the woods", "the sand"]),
}
ROLES = (
    "baker farmer miller smith weaver tailor teacher doctor nurse judge lawyer painter singer dancer poet clerk "
    "guard soldier captain sailor pilot driver cook waiter butcher grocer barber cobbler mason carpenter plumber "
    "potter hunter fisher shepherd gardener porter butler maid monk priest bishop king queen prince duke knight "
    "squire jester scholar student printer banker merchant pedlar beggar thief widow uncle aunt actor admiral archer "
    "artist astronomer baron boxer chemist colonel composer courier dentist detective diver editor emperor engineer "
    "explorer florist gambler glazier governor hermit inventor jeweller juggler librarian locksmith magician mayor "
    "messenger minister musician nun officer orphan pirate postman ranger sculptor senator servant sheriff smuggler "
    "spy steward surgeon tutor tyrant umpire usher veteran vicar witch writer cousin nephew"
)
# Temperament -> its states: "the judge helped the thief because the thief was poor".
TEMPERAMENTS = {
    "wretched": "poor hungry sick cold tired lonely",
    "gentle": "kind honest patient generous polite faithful",
    "fierce": "angry strong brave loud proud stubborn",
    "clever": "wise quick learned careful curious sharp",
    "idle": "lazy sleepy slow bored careless forgetful",
}
# Verbs of a because-clause; the state belongs to the person after "because".
DEEDS = "helped thanked feared asked scolded followed pitied praised"
# Patients of a goal by kind, and the tool for each action and kind.
PATIENTS = {
    "soft": "bread cake cheese dough pillow sponge butter moss mattress pudding pear plum carpet curtain towel sail "
            "peach banana ribbon velvet",
    "hard": "coconut log bone ice horn shell pumpkin turnip fence coin root gravel board beam rock helmet antler tusk "
            "hoof girder",
    "wet": "dumpling soup mud paint honey milk porridge tar mortar melon jelly glue ink broth snow lettuce stew "
           "gravy syrup custard",
    "small": "seed needle pearl crumb button berry pin ring nut bean pebble petal feather thorn lace splinter pea "
             "lentil grain pip",
}
TOOLS = {
    "cut": "knife saw wire razor",
    "clean": "brush file rag pick",
    "carry": "basket cart bucket pouch",
    "fix": "thread rivet plaster paste",
    "lift": "fork crane ladle tweezers",
    "cover": "cloth tarp lid thimble",
    "move": "paddle lever pump tongs",
    "measure": "tape ruler beaker scale",
    "hold": "mitt clamp vat tray",
    "warm": "dryer burner cooker bulb",
}
VERBS = (
    "found lost saw sold bought carried painted washed hid took dropped opened kept liked stole borrowed repaired "
    "wanted polished wrapped"
)
PLACES = (
    "in the garden|on the hill|by the river|at the market|in the forest|near the mill|on the road|in the cellar|"
    "at the harbour|behind the barn|in the kitchen|under the tree|at the inn|in the square|by the well|on the roof|"
    "in the valley|near the church|at the school|in the stable"
)
TIMES = (
    "at dawn|at noon|at night|in the evening|on monday|on friday|in spring|in winter|in autumn|last year|long ago|"
    "after lunch|before the storm|yesterday"
)
ADJECTIVES = "old young tall small big red green blue white black new heavy round quiet pretty dusty"
JUNK = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~0123456789 \t\r\v\f\n"
