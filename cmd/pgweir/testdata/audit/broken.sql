SELECT 'no end
