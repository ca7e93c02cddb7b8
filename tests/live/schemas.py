"""Schemas as people write them, with something to ask for each: for tests/live/schema.py and contrib/bench/schema.py."""

_ADDRESS = {
    'type': 'object', 'additionalProperties': False, 'required': ['street', 'city'],
    'properties': {'street': {'type': 'string', 'maxLength': 40}, 'city': {'type': 'string', 'maxLength': 30},
                   'zip': {'type': 'string', 'pattern': '^[0-9]{5}$'}}}

# name, what to ask, schema
SCHEMAS = (
    ('person', 'Describe a person.', {
        'type': 'object', 'title': 'Person', 'required': ['name', 'age', 'email'], 'additionalProperties': False,
        'properties': {'name': {'type': 'string', 'description': 'full name', 'minLength': 1, 'maxLength': 40},
                       'age': {'type': 'integer', 'minimum': 0, 'maximum': 120},
                       'email': {'type': 'string', 'format': 'email'}}}),
    ('nested', 'Describe a company with its address and two employees.', {
        'type': 'object', 'required': ['company', 'address', 'employees'], 'additionalProperties': False,
        '$defs': {'address': _ADDRESS},
        'properties': {'company': {'type': 'string', 'maxLength': 40}, 'address': {'$ref': '#/$defs/address'},
                       'employees': {'type': 'array', 'minItems': 1, 'maxItems': 2, 'items': {
                           'type': 'object', 'required': ['name', 'home'], 'additionalProperties': False,
                           'properties': {'name': {'type': 'string', 'maxLength': 30},
                                          'home': {'$ref': '#/$defs/address'}}}}}}),
    ('list', 'List the first prime numbers.', {
        'type': 'array', 'items': {'type': 'integer', 'minimum': 2, 'exclusiveMaximum': 100},
        'minItems': 3, 'maxItems': 12}),
    ('enum', 'How do you feel about rain? Classify it.', {
        'type': 'object', 'required': ['sentiment', 'certain', 'stars'], 'additionalProperties': False,
        'properties': {'sentiment': {'enum': ['positive', 'neutral', 'negative']}, 'certain': {'type': 'boolean'},
                       'stars': {'enum': [1, 2, 3, 4, 5]}, 'language': {'const': 'en'}}}),
    ('numbers', 'Give the weather at a place on earth.', {
        'type': 'object', 'required': ['latitude', 'longitude', 'temperature', 'humidity'],
        'additionalProperties': False,
        'properties': {'latitude': {'type': 'number', 'minimum': -90, 'maximum': 90},
                       'longitude': {'type': 'number', 'minimum': -180, 'maximum': 180},
                       'temperature': {'type': 'number', 'minimum': -89.2, 'maximum': 56.7},
                       'humidity': {'type': 'number', 'exclusiveMinimum': 0, 'maximum': 1}}}),
    ('pattern', 'Invent an order of a shop.', {
        'type': 'object', 'required': ['order', 'phone', 'placed', 'paid'], 'additionalProperties': False,
        'properties': {'order': {'type': 'string', 'pattern': '^[A-Z]{2,3}-[0-9]{4,6}$'},
                       'phone': {'type': 'string', 'pattern': r'^\+[1-9]\d{0,2} \d{3} \d{4,8}$'},
                       'placed': {'type': 'string', 'format': 'date-time'},
                       'paid': {'type': 'string', 'format': 'date'}}}),
    ('tree', 'Draw a family tree.', {
        '$defs': {'node': {'type': 'object', 'required': ['name', 'children'], 'additionalProperties': False,
                           'properties': {'name': {'type': 'string', 'minLength': 1, 'maxLength': 20},
                                          'children': {'type': 'array', 'maxItems': 3,
                                                       'items': {'$ref': '#/$defs/node'}}}}},
        '$ref': '#/$defs/node'}),
    ('union', 'Draw two shapes.', {
        'type': 'array', 'minItems': 1, 'maxItems': 3, 'items': {'oneOf': [
            {'type': 'object', 'required': ['shape', 'radius'], 'additionalProperties': False,
             'properties': {'shape': {'const': 'circle'}, 'radius': {'type': 'number', 'minimum': 0, 'maximum': 99}}},
            {'type': 'object', 'required': ['shape', 'sides'], 'additionalProperties': False,
             'properties': {'shape': {'const': 'polygon'},
                            'sides': {'type': 'array', 'items': {'type': 'integer', 'minimum': 1, 'maximum': 99},
                                      'minItems': 3, 'maxItems': 6}}},
            {'type': 'null'}]}}),
    ('optional', 'Describe a book.', {
        'type': 'object', 'required': ['title'], 'additionalProperties': {'type': ['string', 'null'], 'maxLength': 30},
        'properties': {'title': {'type': 'string', 'maxLength': 50}, 'subtitle': {'type': 'string', 'maxLength': 50},
                       'year': {'anyOf': [{'type': 'integer', 'minimum': 1450, 'maximum': 2030}, {'type': 'null'}]},
                       'pages': {'type': 'integer', 'minimum': 1, 'maximum': 5000},
                       'authors': {'type': 'array', 'items': {'type': 'string', 'maxLength': 30}, 'maxItems': 3},
                       'in_print': {'type': 'boolean'}}}),
    ('merged', 'Report an event.', {
        'allOf': [{'type': 'object', 'required': ['id', 'level'],
                   'properties': {'id': {'type': 'string', 'format': 'uuid'}, 'level': {'enum': ['info', 'error']}}},
                  {'required': ['message'], 'additionalProperties': False,
                   'properties': {'id': {'type': 'string', 'format': 'uuid'}, 'level': {'enum': ['info', 'error']},
                                  'message': {'type': 'string', 'maxLength': 60},
                                  'detail': {'type': ['object', 'array', 'null'], 'maxItems': 2,
                                             'properties': {'code': {'type': 'integer', 'minimum': 1}},
                                             'items': {'type': ['integer', 'string'], 'maxLength': 10}}}}]}),
)
